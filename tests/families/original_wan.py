"""A Wan transformer built as the original repositories and TurboDiffusion build theirs, in a few thousand parameters.

What tadp has to cope with: the class is called WanModel, layers have other names than in diffusers, every block and the
head are wrapped in selective activation checkpointing by default, blocks are called with keywords, parts run under
autocast, and the timestep comes as `timesteps_B_T`.
"""

import functools

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

DIM, HEADS = 32, 2


def _keep_products(context: object, op: object, *args: object, **kwargs: object) -> CheckpointPolicy:
    saved = op in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
    return CheckpointPolicy.MUST_SAVE if saved else CheckpointPolicy.PREFER_RECOMPUTE


def wrapped(module: nn.Module) -> nn.Module:
    contexts = functools.partial(create_selective_checkpoint_contexts, _keep_products)
    return checkpoint_wrapper(module, context_fn=contexts, preserve_rng_state=False)


class Norm(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.float32, enabled=torch.cuda.is_available()):
            return super().forward(x.float()).type_as(x)


class Product(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(DIM), nn.RMSNorm(DIM)
        self.attn_op = Product()

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        seen = x if context is None else context
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(seen)), self.v(seen)
        heads = (tensor.unflatten(-1, (HEADS, -1)) for tensor in (q, k, v))
        return self.o(self.attn_op(*heads).flatten(2))


class WanAttentionBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (Norm(DIM, elementwise_affine=False) for _ in range(3))
        self.self_attn, self.cross_attn = SelfAttention(), SelfAttention()
        self.ffn = nn.Sequential(nn.Linear(DIM, 64), nn.GELU(approximate="tanh"), nn.Linear(64, DIM))
        self.modulation = nn.Parameter(torch.randn(1, 6, DIM) / DIM**0.5)

    def forward(
        self, x: torch.Tensor, e: torch.Tensor, seq_lens: torch.Tensor, context: torch.Tensor, context_lens: None
    ) -> torch.Tensor:
        assert e.dtype == torch.float32
        shift, scale, gate, shift2, scale2, gate2 = (self.modulation + e).chunk(6, dim=1)
        x = x + self.self_attn((self.norm1(x).float() * (1 + scale) + shift).type_as(x)) * gate.type_as(x)

        def rest(x: torch.Tensor) -> torch.Tensor:
            x = x + self.cross_attn(self.norm3(x), context)
            y = self.ffn((self.norm2(x).float() * (1 + scale2) + shift2).type_as(x))
            return x + y * gate2.type_as(x)

        return rest(x)


class WanModel(nn.Module):
    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch_embedding, self.text_embedding = nn.Linear(4, DIM), nn.Linear(16, DIM)
        self.time_projection = nn.Linear(8, 6 * DIM)
        self.blocks = nn.ModuleList([wrapped(WanAttentionBlock()) for _ in range(layers)])
        self.head = wrapped(nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, 4)))

    def forward(
        self, x_B_C_T_H_W: torch.Tensor, timesteps_B_T: torch.Tensor, crossattn_emb: torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        tokens = self.patch_embedding(x_B_C_T_H_W.flatten(2).transpose(1, 2))
        angles = timesteps_B_T[:, :1] / 1000 * torch.arange(1, 5)
        e = self.time_projection(torch.cat([angles.cos(), angles.sin()], -1).float()).unflatten(1, (6, DIM))
        lengths = torch.tensor([len(sample) for sample in tokens])
        called = {"e": e, "seq_lens": lengths, "context": self.text_embedding(crossattn_emb), "context_lens": None}
        for block in self.blocks:
            tokens = block(tokens, **called)
        return self.head(tokens).transpose(1, 2).unflatten(2, x_B_C_T_H_W.shape[2:])


def inputs(timestep: float = 900.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x_B_C_T_H_W": torch.randn(1, 4, 2, 4, 4, generator=generator),
        "timesteps_B_T": torch.full((1, 1), timestep),
        "crossattn_emb": torch.randn(1, 8, 16, generator=generator),
    }

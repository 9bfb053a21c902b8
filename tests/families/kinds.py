"""Made-up transformers, each with one habit that real ones have: how blocks are kept, called, and what they return."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

DIM = 32


class Attention(nn.Module):
    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(dim, dim) for _ in range(4))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v))
        return self.to_out(self.attend(*heads).transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, dim: int = DIM, hidden: int = 64, attention: type[Attention] = Attention) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.attn = attention(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm(x))
        return x + self.ffn(self.norm(x))


class Model(nn.Module):
    """Two blocks in a list, between a layer in and a layer out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Linear(8, DIM), nn.Linear(DIM, 8)
        self.build()

    def build(self) -> None:
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.head(self.run(self.embed(x) * (1 + timestep[:, None, None] / 1000)))

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class OneBlock(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([Block()])


class InSequential(Model):
    def build(self) -> None:
        self.blocks = nn.Sequential(Block(), Block())

    def run(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class NestedLists(Model):
    def build(self) -> None:
        self.stages = nn.ModuleList([nn.ModuleList([Block(), Block()]), nn.ModuleList([Block()])])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x


class ListOfSequentials(Model):
    def build(self) -> None:
        self.stages = nn.ModuleList([nn.Sequential(Block(), Block()), nn.Sequential(Block())])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            x = stage(x)
        return x


class DifferentShapes(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([Block(hidden=64), Block(hidden=96), Block(hidden=64)])


class CalledBlock(Block):
    def forward(  # type: ignore[override]
        self, x: torch.Tensor, *, mask: None, index: int, pair: tuple[torch.Tensor, torch.Tensor], many: list[Any]
    ) -> torch.Tensor:
        return super().forward(x * pair[0] + pair[1]) + index * many[0] + many[1]["shift"]


class CalledWithEverything(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([CalledBlock(), CalledBlock(), CalledBlock()])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        scale, shift = torch.ones(DIM), torch.full((DIM,), 0.1)
        for index, block in enumerate(self.blocks):
            x = block(x, mask=None, index=index, pair=(scale, shift), many=[0.1, {"shift": shift}])
        return x


@dataclass
class Output:
    sample: torch.Tensor
    extra: torch.Tensor | None = None


class OutputBlock(Block):
    def forward(self, x: torch.Tensor) -> Output:  # type: ignore[override]
        return Output(super().forward(x))


class ReturnsDataclasses(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([OutputBlock(), OutputBlock()])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).sample
        return x


class PairBlock(Block):
    def forward(self, x: torch.Tensor) -> tuple[None, torch.Tensor]:  # type: ignore[override]
        return None, super().forward(x)


class ReturnsTuplesWithNone(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([PairBlock(), PairBlock()])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            _, x = block(x)
        return x


class WritingBlock(Block):
    def forward(self, x: torch.Tensor) -> None:  # type: ignore[override]
        x.copy_(super().forward(x))


class ReturnsNothing(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([WritingBlock(), WritingBlock()])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            block(x)
        return x


class BreakingBlock(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm(x))
        torch._dynamo.graph_break()
        return x + self.ffn(self.norm(x))


class BreaksItsGraph(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([BreakingBlock(), BreakingBlock()])


class BreakingAttention(Attention):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = []
        for layer in (self.to_q, self.to_k, self.to_v):
            heads.append(layer(x).unflatten(-1, (2, -1)).transpose(1, 2))
            torch._dynamo.graph_break()  # in a loop: Dynamo gives the whole frame up and compiles what it calls
        return self.to_out(self.attend(*heads).transpose(1, 2).flatten(-2))


class BreaksInALoop(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([Block(attention=BreakingAttention), Block(attention=BreakingAttention)])


class SharesALinear(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([Block(), Block()])
        self.blocks[1].attn.to_q = self.blocks[0].attn.to_q


class WithBaseLayers(Model):
    """As PEFT leaves layers that have a LoRA."""

    def build(self) -> None:
        self.blocks = nn.ModuleList([Block(), Block()])
        for block in self.blocks:
            block.attn.to_q = _Wrapped(block.attn.to_q)


class _Wrapped(nn.Module):
    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x)


class FusedAttention(Attention):
    def __init__(self, dim: int = DIM) -> None:
        super().__init__(dim)
        del self.to_q, self.to_k, self.to_v
        self.to_qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.to_qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.to_out(self.attend(q, k, v).transpose(1, 2).flatten(-2))


class FusedProjections(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([Block(attention=FusedAttention), Block(attention=FusedAttention)])


class Checkpointed(Model):
    """Every block in activation checkpointing, as the WanModel of the original repositories has it by default."""

    def build(self) -> None:
        self.blocks = nn.ModuleList([checkpoint_wrapper(Block(), preserve_rng_state=False) for _ in range(2)])


class FlexAttention(Attention):
    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        mask = create_block_mask(lambda b, h, i, j: i >= j - 4, None, None, q.shape[2], k.shape[2], device="cpu")
        return flex_attention(q, k, v, block_mask=mask)


class AttendsFlexibly(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([Block(attention=FlexAttention), Block(attention=FlexAttention)])


class MaskedBlock(Block):
    """The mask, a graph input, reaches attention by keyword, and so does the key of a second attention."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor, key: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        q = self.attn.to_q(self.norm(x)).unflatten(-1, (2, -1)).transpose(1, 2)
        found = nn.functional.scaled_dot_product_attention(query=q, key=key, value=key, attn_mask=mask)
        x = x + self.attn.to_out(found.transpose(1, 2).flatten(-2))
        found = nn.functional.scaled_dot_product_attention(q, key, key)
        x = x + self.attn.to_k(self.attn.to_v(found.transpose(1, 2).flatten(-2)))
        return x + self.ffn(self.norm(x))


class AttendsByKeywords(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([MaskedBlock(), MaskedBlock()])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(1, 1, x.shape[1], 8, dtype=torch.bool)
        key = torch.linspace(-1, 1, x.shape[0] * 2 * 8 * 16).view(x.shape[0], 2, 8, 16)
        for block in self.blocks:
            x = block(x, mask=mask, key=key)
        return x


class KeywordLinearBlock(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.ffn[0], self.ffn[2]
        hidden = nn.functional.linear(self.norm(x), bias=first.bias, weight=first.weight)
        return x + self.attn(x) + nn.functional.linear(weight=second.weight, input=nn.functional.gelu(hidden))


class LinearsByKeywords(Model):
    def build(self) -> None:
        self.blocks = nn.ModuleList([KeywordLinearBlock(), KeywordLinearBlock()])


class MethodBlock(Block):
    def run(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x)


class CallsOtherMethods(Model):
    """Nothing of it can be captured: torch.compile sees calls of a block's forward through the block only."""

    def build(self) -> None:
        self.blocks = nn.ModuleList([MethodBlock(), MethodBlock()])

    def run(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block.run(x)
        return x


ALL: tuple[type[Model], ...] = (
    Model,
    OneBlock,
    InSequential,
    NestedLists,
    ListOfSequentials,
    DifferentShapes,
    CalledWithEverything,
    ReturnsDataclasses,
    ReturnsTuplesWithNone,
    ReturnsNothing,
    BreaksItsGraph,
    BreaksInALoop,
    SharesALinear,
    WithBaseLayers,
    FusedProjections,
    Checkpointed,
    AttendsFlexibly,
    AttendsByKeywords,
    LinearsByKeywords,
)

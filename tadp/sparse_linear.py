"""SLA, sparse-linear attention, for the self-attention of diffusers' Wan (arXiv 2509.24006), forward only.

Blocks of keys with the largest guessed weights are attended to exactly, at 8 bits; what the others would give is made
up for by linear attention, whose cost grows with the tokens and not with their square, through a learned projection:

    O    = O_s + proj_l(O_l)
    O_s  = softmax(Q K^T / sqrt(dim)) V over the critical blocks                          section 4.2
    O_l  = phi(Q) H / (phi(Q) z)      H = sum_j phi(K_j)^T V_j,  z = sum_j phi(K_j)^T 1   section 4.2
    phi  = softmax over the channels of a token

Critical are the blocks of the largest pooled scores (section 4.1; kernels/block_map.py). In the paper j runs over the
marginal blocks: those that are neither critical nor, with the smallest scores, negligible. In TurboDiffusion, whose
weights are published, j runs over all blocks; then H and z are the same for all queries. Weights serve only the form
that they were trained with. Untrained, ``proj_l`` is zero, and the result is that of sparse attention.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tadp.kernels.block_map import KEY_BLOCK, blocks_kept, queries_of_row

SMALLEST_SUM = 1e-5
"""Added to phi(Q) z, as in the published code: without marginal blocks it is zero."""


class SparseLinearAttention(nn.Module):
    """O of q, k and v; shows its map of critical blocks as ``block_map`` (tadp.runtime.signals.HasBlockMap)."""

    block_map: torch.Tensor | None

    def __init__(self, head_dim: int, share: float = 0.1, negligible: float | None = None) -> None:
        """Nothing is learned yet.

        Args:
            head_dim: channels of a head.
            share: of the key blocks that are critical.
            negligible: of the key blocks that count for nothing, where linear attention takes the marginal ones only;
                None where it takes all blocks, the critical ones too, as in TurboDiffusion.

        Raises:
            ValueError: for shares below 0 or above 1 together.
        """
        super().__init__()
        if not 0.0 <= share <= 1.0 or not 0.0 <= (negligible or 0.0) <= 1.0 - share:
            raise ValueError(f"shares of critical and negligible blocks, {share} and {negligible}, are parts of one")
        self.share, self.negligible = share, negligible
        self.proj_l = nn.Linear(head_dim, head_dim)
        nn.init.zeros_(self.proj_l.weight)
        nn.init.zeros_(self.proj_l.bias)
        self.block_map = None

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """O, as q.

        Args:
            q: ``(batch, heads, tokens, dim)``, float32, bfloat16 or float16.
            k: as q.
            v: as q.

        Raises:
            RuntimeError: for tensors that attention has no kernel for.
        """
        block_map = torch.ops.tadp.block_map(q, k, self.share, diagonal=False)
        self.block_map = block_map
        sparse = torch.ops.tadp.attention(q, k, v, block_map=block_map)
        if self.negligible is None:
            linear = linear_over_all(q, k, v)
        else:
            linear = linear_over(q, k, v, self._marginal(q, k, block_map))
        projected = self.proj_l(linear.to(self.proj_l.weight.dtype))
        return (sparse + projected).to(q.dtype)

    def _marginal(self, q: torch.Tensor, k: torch.Tensor, critical: torch.Tensor) -> torch.Tensor:
        """What is neither critical nor negligible, ``(batch, heads, query blocks, key blocks)``, boolean."""
        blocks = critical.shape[-1]
        fewest = int((self.negligible or 0.0) * blocks + 0.5)
        if fewest == 0:
            return ~critical
        counted = (blocks - fewest) / blocks
        if blocks_kept(counted, blocks) <= blocks_kept(self.share, blocks):
            return torch.zeros_like(critical)
        return torch.ops.tadp.block_map(q, k, counted, diagonal=False) & ~critical


def feature_map(x: torch.Tensor) -> torch.Tensor:
    """phi, in float32: the softmax over the channels of each token."""
    return x.softmax(-1, dtype=torch.float32)


def linear_over_all(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """O_l with all blocks, ``(batch, heads, tokens, dim)``, float32."""
    features, keys = feature_map(q), feature_map(k)
    sums = keys.transpose(-1, -2) @ v.float()
    total = features @ keys.sum(-2)[..., None]
    return features @ sums / (total + SMALLEST_SUM)


def linear_over(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, marginal: torch.Tensor) -> torch.Tensor:
    """O_l with the blocks that a map names, ``(batch, heads, tokens, dim)``, float32.

    Every block of keys is summed up once, and every block of queries adds up the sums of its blocks.
    """
    rows, columns = marginal.shape[-2:]
    size = queries_of_row(q.shape[2], marginal)
    features = _in_blocks(feature_map(q), rows, size)
    keys, values = (_in_blocks(x, columns, KEY_BLOCK) for x in (feature_map(k), v.float()))
    sums = (keys.transpose(-1, -2) @ values).flatten(-2)
    chosen = marginal.float()
    by_row = (chosen @ sums).unflatten(-1, (q.shape[3], v.shape[3]))
    total = features @ (chosen @ keys.sum(-2))[..., None]
    return (features @ by_row / (total + SMALLEST_SUM)).flatten(2, 3)[:, :, : q.shape[2]]


def _in_blocks(x: torch.Tensor, blocks: int, size: int) -> torch.Tensor:
    """``(batch, heads, blocks, size, dim)``, with zeros behind the last token."""
    padding = blocks * size - x.shape[2]
    return nn.functional.pad(x, (0, 0, 0, padding)).unflatten(2, (blocks, size))


class SparseLinearProcessor(nn.Module):
    """An attention processor of diffusers' Wan: what ``WanAttnProcessor`` does in self-attention, with SLA inside.

    Set on a layer, it is a part of the model: ``proj_l`` is saved, loaded and moved with it.
    """

    _attention_backend = None
    _parallel_config = None

    def __init__(self, attention: SparseLinearAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The layer's result, ``(batch, tokens, channels)``; arguments are those of diffusers.

        Raises:
            ValueError: where it is given a text or a mask.
        """
        if encoder_hidden_states is not None or attention_mask is not None:
            raise ValueError("sparse-linear attention is for self-attention without a mask")
        if getattr(attn, "fused_projections", False):
            query, key, value = attn.to_qkv(hidden_states).chunk(3, dim=-1)
        else:
            query, key, value = (project(hidden_states) for project in (attn.to_q, attn.to_k, attn.to_v))
        query, key = attn.norm_q(query), attn.norm_k(key)
        query, key, value = (x.unflatten(2, (attn.heads, -1)) for x in (query, key, value))
        if rotary_emb is not None:
            query, key = rotate(query, *rotary_emb), rotate(key, *rotary_emb)
        result = self.attention(*(x.transpose(1, 2) for x in (query, key, value)))
        projection, dropout = attn.to_out
        projected: torch.Tensor = dropout(projection(result.transpose(1, 2).flatten(2, 3)))
        return projected


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of Wan: pairs of neighbouring channels are turned.

    Args:
        x: ``(batch, tokens, heads, dim)``.
        cosine: ``(1, tokens, 1, dim)``, each number twice.
        sine: the same.
    """
    first, second = x[..., 0::2], x[..., 1::2]
    cosine, sine = cosine[..., 0::2], sine[..., 0::2]
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], -1)
    return turned.flatten(-2).type_as(x)


def use_sparse_linear_attention(
    transformer: Any, share: float = 0.1, negligible: float | None = None
) -> list[SparseLinearAttention]:
    """Put SLA into the self-attention of every block of diffusers' Wan, before `tadp.compile`.

    Args:
        transformer: a ``WanTransformer3DModel``, changed in place.
        share: as for `SparseLinearAttention`.
        negligible: the same.

    Returns:
        The modules, block by block.
    """
    made = []
    for block in transformer.blocks:
        layer = block.attn1
        weight = layer.to_q.weight
        attention = SparseLinearAttention(layer.inner_dim // layer.heads, share, negligible)
        layer.set_processor(SparseLinearProcessor(attention.to(weight.device)))
        made.append(attention)
    return made


def load_projections(modules: list[SparseLinearAttention], weights: Mapping[str, torch.Tensor]) -> None:
    """Load every ``proj_l`` from weights by the names of any repository, such as TurboDiffusion's.

    Args:
        modules: block by block, as `use_sparse_linear_attention` returns them.
        weights: of the whole model or of these layers: names with ``blocks.NUMBER.`` in front and ``proj_l.weight`` or
            ``proj_l.bias`` at the end count, such as ``blocks.3.self_attn.attn_op.local_attn.proj_l.weight``.

    Raises:
        ValueError: if a weight is missing, or has another shape.
    """
    for index, module in enumerate(modules):
        for name, parameter in module.proj_l.named_parameters():
            found = [
                tensor
                for path, tensor in weights.items()
                if f".blocks.{index}." in f".{path}" and path.endswith(f"proj_l.{name}")
            ]
            if len(found) != 1 or found[0].shape != parameter.shape:
                shapes = [tuple(tensor.shape) for tensor in found] or "nothing"
                raise ValueError(f"block {index} needs one proj_l.{name} of {tuple(parameter.shape)}, found {shapes}")
            with torch.no_grad():
                parameter.copy_(found[0])

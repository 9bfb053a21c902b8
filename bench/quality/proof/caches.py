"""Rivals that reuse: the step caches of diffusers, around blocks that tadp compiled.

Hooks of diffusers inside a compiled block make its graph break, and then nothing of it is quantized. Here they stand
around it: the model calls a shell for each block, the cache hooks the shell, and what the shell runs is the compiled
block. So a cache decides as it does in diffusers, and what it does not skip runs at the level of tadp's policy.
"""

import ast
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry

Config = FirstBlockCacheConfig | MagCacheConfig | TaylorSeerCacheConfig


class Shell(torch.nn.Module):
    """A block as a cache sees it. It counts runs, and does not own the block: states and devices are the model's."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self._inner = (block,)
        self.runs = 0

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *others: Any,
        **options: Any,
    ) -> torch.Tensor:
        self.runs += 1
        result: torch.Tensor = self._inner[0](hidden_states, encoder_hidden_states, *others, **options)
        return result


TransformerBlockRegistry.register(
    model_class=Shell,
    metadata=TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)


@contextmanager
def cached(transformer: Any, config: Config) -> Iterator[Sequence[Shell]]:
    """A compiled transformer of diffusers under a step cache."""
    blocks = transformer.blocks
    shells = [Shell(block) for block in blocks]
    transformer.blocks = torch.nn.ModuleList(shells)
    try:
        transformer.enable_cache(config)
        yield shells
    finally:
        transformer.disable_cache()
        transformer.blocks = blocks


def magnitudes(pipeline: Any, prompts: Sequence[str], arguments: Mapping[str, Any]) -> list[float]:
    """The ratios that MagCache wants, as its documentation says: from generations in which it measures them.

    Means over prompts and guidance branches. diffusers prints them and keeps them nowhere.
    """
    printed = io.StringIO()
    config = MagCacheConfig(calibrate=True, num_inference_steps=arguments["num_inference_steps"])
    with cached(pipeline.transformer, config), redirect_stdout(printed):
        for seed, prompt in enumerate(prompts):
            pipeline(prompt, generator=torch.Generator().manual_seed(seed), **arguments)
    found = [ast.literal_eval(line) for line in printed.getvalue().splitlines() if line.startswith("[1.0")]
    return [statistics.fmean(column) for column in zip(*found, strict=True)]


def with_magnitudes(config: Config, ratios: Sequence[float]) -> Config:
    """A configuration of MagCache with what was measured; others as they are."""
    return replace(config, mag_ratios=torch.tensor(ratios)) if isinstance(config, MagCacheConfig) else config

"""How far signals from a sample of the tokens are from those of all tokens; part of bench.models.signals."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from bench.models.model import demo_pipeline
from bench.models.probe_run import run_probe
from tadp.runtime.signals.measures import WIDTHS, activation_moments, attention_entropy, quantization_error

ALL = 1 << 30
"""More samples than there are tokens."""


def compare(captions: list[str]) -> list[dict[str, object]]:
    """A row per signal: its mean, and how far the sampled one is off, relative to the exact one of the same forward.

    Measured in every block of the embedded model in the steps of a probe, at 16 bits. For entropy the last column is
    the standard error that the measurement itself states, root mean square, relative to the exact value as well.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    stated: list[float] = []
    pipeline = demo_pipeline()

    def note(name: str, exact: float, sampled: float) -> None:
        pairs.setdefault(name, []).append((exact, sampled))

    def attended(query: torch.Tensor, key: torch.Tensor) -> None:
        if query.shape == key.shape:  # self-attention
            exact, (sampled, error) = (
                attention_entropy(query, key, samples=ALL)[0, 0].item(),
                attention_entropy(query, key)[0].tolist(),
            )
            note("entropy", exact, sampled)
            stated.append(error / exact)

    def taken(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        (values,) = inputs
        note("kurtosis", activation_moments(values, ALL)[0, 0].item(), activation_moments(values)[0, 0].item())
        both = zip(quantization_error(values, ALL)[0].tolist(), quantization_error(values)[0].tolist(), strict=True)
        for width, (exact, sampled) in zip(WIDTHS, both, strict=True):
            note(f"quantization error, {width} bits", exact, sampled)

    linears = [module for module in pipeline.transformer.blocks.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [linear.register_forward_pre_hook(taken) for linear in linears]
    with _watched_attention(attended):
        for seed, caption in enumerate(captions):
            run_probe(pipeline, caption, seed)
    for hook in hooks:
        hook.remove()
    return [_row(name, np.array(found), stated if name == "entropy" else None) for name, found in pairs.items()]


def _row(name: str, pairs: np.ndarray, stated: list[float] | None) -> dict[str, object]:
    exact, sampled = pairs.T
    off = np.abs(sampled - exact) / exact
    return {
        "signal": name,
        "exact, mean": float(exact.mean()),
        "off, root mean square": float(np.sqrt((off**2).mean())),
        "off, 95 %": float(np.percentile(off, 95)),
        "off, largest": float(off.max()),
        "stated standard error": None if stated is None else float(np.sqrt(np.square(stated).mean())),
    }


@contextmanager
def _watched_attention(watch: Any) -> Iterator[None]:
    """Show query and key of every attention product of uncompiled code."""
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        watch(query, key)
        return attend(query, key, *args, **kwargs)

    torch.nn.functional.scaled_dot_product_attention = watched
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = attend

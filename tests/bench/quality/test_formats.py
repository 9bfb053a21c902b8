"""The comparison of formats: every format holds the layer, and planes are no worse than rounding alone."""

from pathlib import Path

import torch

from bench.quality.formats import WRITTEN, costs, layers, stored_in


def test_every_format_holds_the_layer(tmp_path: Path) -> None:
    made = layers(64, 512)
    assert made["heavy tails"].abs().max() > 2 * made["Gaussian"].abs().max()
    found = dict(stored_in(made["Gaussian"], tmp_path))
    assert {*WRITTEN, "GGUF Q8_0"} <= set(found)
    for name, stored in found.items():
        cost = costs(made["Gaussian"], stored)
        before, changed, after = cost.values()
        assert isinstance(before, float)
        assert isinstance(after, float)
        assert before > 30, name
        assert after > 35, name
        assert changed == 1 or "int8" in str(stored.scheme)
        assert torch.Size(stored.shape) == made["Gaussian"].shape

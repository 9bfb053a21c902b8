"""Layers with heavy tails: what is made up is as declared, and ways of packing keep the layer's output."""

import torch

from bench.quality.heavy_tails import KINDS, made_up, rotated, ways


def test_large_channels_and_tokens_are_as_declared() -> None:
    even, channels = (made_up(KINDS[name], 400, 8, 2000) for name in ("even", "channels, 100 times"))
    ratio = (channels.seen.std(0) / even.seen.std(0)).sort(descending=True).values
    assert (ratio[:4] > 15).all()
    assert (ratio[4:] < 1.2).all()
    peaks = made_up(KINDS["tokens, 30 times"], 400, 8, 2000).seen.abs().amax(1)
    assert 0.005 < (peaks > 4 * peaks.median()).float().mean() < 0.03
    assert not torch.equal(even.seen, even.unseen)


def test_every_way_stands_for_the_layers_own_output() -> None:
    layer = made_up(KINDS["channels, 20 times"], 128, 16, 300)
    expected = layer.unseen @ layer.weight.T
    assert {"rotated", "rotated, compensated"} <= set(ways())
    for make in ways().values():
        packed, weight, x = make(layer)
        assert torch.allclose(x @ weight.T, expected, rtol=1e-3, atol=1e-3)
        error = packed.linear(x) - expected
        assert error.square().mean().sqrt() < 0.1 * expected.square().mean().sqrt()


def test_rotation_leaves_outputs_as_they_are() -> None:
    layer = made_up(KINDS["even"], 64, 4, 10)
    turned = rotated(layer)
    assert torch.allclose(turned.unseen @ turned.weight.T, layer.unseen @ layer.weight.T, atol=1e-4)

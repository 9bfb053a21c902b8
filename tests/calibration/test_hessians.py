"""Sums of products of inputs: right for every layer, shared where inputs are, and within memory."""

import pytest
import torch
from torch import nn

from tadp.calibration.hessians import hessians_by_block
from tadp.calibration.recording import Step

COLUMNS, HIDDEN = 8, 12


class Block(nn.Module):
    """Three layers on one input, one behind them that writes into what it takes, and one that no step runs."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(COLUMNS, HIDDEN) for _ in range(3))
        self.out, self.idle = nn.Linear(HIDDEN, COLUMNS), nn.Linear(COLUMNS, COLUMNS)

    def forward(self, x: torch.Tensor, apart: bool) -> torch.Tensor:
        mixed = self.query(x) * self.key(x) + self.value(x.clone() if apart else x)
        found = self.out(mixed)
        mixed.zero_()
        return x + found


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.ends = 0

    def forward(self, hidden_states: torch.Tensor, apart: bool = False) -> torch.Tensor:
        for block in self.blocks:
            hidden_states = block(hidden_states, apart)
        self.ends += 1
        return hidden_states


def _steps(count: int = 2, apart: bool = False) -> list[Step]:
    generator = torch.Generator().manual_seed(1)
    inputs = [{"hidden_states": torch.randn(2, 5, COLUMNS, generator=generator)} for _ in range(2 * count)]
    inputs[-1]["apart"] = apart  # type: ignore[assignment]
    return [Step(1.0, {"cond": inputs[2 * index], "uncond": inputs[2 * index + 1]}) for index in range(count)]


def _layers(model: Model) -> dict[str, dict[str, nn.Linear]]:
    return {
        f"blocks.{index}": {
            f"blocks.{index}.{name}": module for name, module in block.named_modules() if isinstance(module, nn.Linear)
        }
        for index, block in enumerate(model.blocks)
    }


def _expected(model: Model, steps: list[Step]) -> dict[str, torch.Tensor]:
    """By whole forwards, each layer on its own."""
    found: dict[str, torch.Tensor] = {}
    for name, layer in ((name, layer) for own in _layers(model).values() for name, layer in own.items()):

        def note(_: nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
            x = inputs[0].detach().double().flatten(0, -2)
            found[name] = found.get(name, torch.zeros((), dtype=torch.float64)) + x.T @ x

        hook = layer.register_forward_pre_hook(note)
        with torch.no_grad():
            for step in steps:
                for inputs in step.inputs.values():
                    model(**inputs)
        hook.remove()
    return found


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("memory", [1, 3000, 1 << 30])
def test_every_layer_that_ran_has_its_sum(memory: int, apart: bool) -> None:
    model, steps = Model(), _steps(apart=apart)
    expected = _expected(model, steps)
    found: dict[str, torch.Tensor] = {}
    for block, own in hessians_by_block(model, _layers(model), steps, memory):
        assert {name.rpartition(".")[0] for name in own} == {block}
        found |= own
    assert found.keys() == expected.keys() == {name for name in expected if "idle" not in name}
    for name, hessian in found.items():
        assert hessian.dtype is torch.float32
        assert torch.allclose(hessian.double(), expected[name], rtol=1e-5, atol=1e-5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_layers_of_one_input_share_a_matrix() -> None:
    model = Model()
    _, found = next(iter(hessians_by_block(model, _layers(model), _steps())))
    query, key, value, out = (found[f"blocks.0.{name}"] for name in ("query", "key", "value", "out"))
    assert query is key is value
    assert out is not query


def test_forwards_end_behind_the_last_block_that_is_looked_at() -> None:
    model = Model()
    found = [block for block, _ in hessians_by_block(model, _layers(model), _steps(), memory=1)]
    assert found == ["blocks.0", "blocks.1", "blocks.2"]
    assert model.ends == 0


def test_of_many_tokens_some_are_read() -> None:
    model, steps = Model(), _steps(1)
    (_, found), *_ = hessians_by_block(model, {"blocks.0": _layers(model)["blocks.0"]}, steps, tokens=4)
    read = [inputs["hidden_states"].flatten(0, 1)[::3] for inputs in steps[0].inputs.values()]
    assert torch.allclose(found["blocks.0.query"], sum((x.T @ x for x in read), torch.zeros(())), rtol=1e-5)


def test_an_error_of_the_model_comes_through() -> None:
    model = Model()
    step = Step(1.0, {"cond": {"hidden_states": torch.zeros(1, 2, COLUMNS + 1)}})
    with pytest.raises(RuntimeError):
        next(iter(hessians_by_block(model, _layers(model), [step])))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

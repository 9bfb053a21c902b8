"""Training state on disk: safetensors for tensors, JSON for the rest, written aside and renamed into place."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tadp.writing import replacing


def save_state(
    directory: Path,
    modules: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    progress: Mapping[str, float],
) -> None:
    """Write modules, optimizer states and progress counters; an interrupted call leaves the previous state intact."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    copies = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    with replacing(directory / "state.safetensors") as temporary:
        save_file(copies, temporary, metadata={"progress": json.dumps(progress)})


def load_state(
    directory: Path, modules: Mapping[str, torch.nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, float] | None:
    """Restore what `save_state` wrote, in place; returns the progress counters, or None where nothing was saved."""
    path = directory / "state.safetensors"
    if not path.exists():
        return None
    tensors = load_file(path)
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        )
    for name, optimizer in optimizers.items():
        prefix = f"{name}/"
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, entry = key.removeprefix(prefix).split("/")
                state.setdefault(int(index), {})[entry] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["progress"])

"""What compensated rounding needs to know of a layer's inputs: ``H = X^T X`` over tokens of recorded steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from tqdm import tqdm

from tadp.calibration.recording import Step

MEMORY = 8 << 30
"""Bytes of matrices that are held at a time."""

TOKENS = 8192
"""Tokens of an input that are read, evenly spaced; more of one forward say little that is new."""


def hessians_by_block(
    model: torch.nn.Module,
    layers: Mapping[str, Mapping[str, torch.nn.Linear]],
    steps: Sequence[Step],
    memory: int = MEMORY,
    tokens: int = TOKENS,
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Matrices of all layers, block after block, with as few forwards as memory allows.

    Several blocks are gathered in one go over the steps as long as their matrices fit; each forward ends behind the
    last of them. A caller that drops what it was given before it asks on keeps to the bound.

    Args:
        model: not compiled, at 16 bits.
        layers: linear layers by path, by block, in the order in which blocks run.
        steps: recorded.
        memory: bytes that the matrices of a go may take; a block that takes more is gathered alone.
        tokens: of one input that count at most.

    Yields:
        A block, and by layer ``(columns, columns)`` float32; layers that took the same inputs share one tensor. A layer
        that no step ran is missing.
    """
    goes = _goes(layers, memory)
    with tqdm(total=len(goes) * len(steps), desc="gathering activations", unit="step", leave=False) as bar:
        for blocks in goes:
            found = _gather(model, {block: layers[block] for block in blocks}, steps, tokens, bar.update)
            for block in blocks:
                yield block, found.pop(block)


def _goes(layers: Mapping[str, Mapping[str, torch.nn.Linear]], memory: int) -> list[list[str]]:
    """Blocks that are gathered together; layers are counted as if none shared its inputs."""
    goes: list[list[str]] = []
    used = 0
    for block, own in layers.items():
        size = sum(4 * layer.in_features**2 for layer in own.values())
        if not goes or used + size > memory:
            goes.append([])
            used = 0
        goes[-1].append(block)
        used += size
    return goes


class _Enough(Exception):
    """Ends a forward behind the last block that is looked at."""


@torch.no_grad()
def _gather(
    model: torch.nn.Module,
    layers: Mapping[str, Mapping[str, torch.nn.Linear]],
    steps: Sequence[Step],
    tokens: int,
    progress: Callable[[], object],
) -> dict[str, dict[str, torch.Tensor]]:
    """Matrices by block and layer."""
    products = {block: _InputProducts(tokens) for block in layers}
    last = list(layers)[-1]

    def ending(block: str) -> Callable[..., None]:
        def end(*_: object) -> None:
            products[block].end()
            if block == last:
                raise _Enough

        return end

    hooks = [model.get_submodule(block).register_forward_hook(ending(block)) for block in layers]
    hooks += [
        layer.register_forward_pre_hook(products[block].hook(name))
        for block, own in layers.items()
        for name, layer in own.items()
    ]
    try:
        for step in steps:
            for inputs in step.inputs.values():
                with suppress(_Enough):
                    model(**inputs)
            progress()
    finally:
        for hook in hooks:
            hook.remove()
    return {block: found.by_layer() for block, found in products.items()}


class _InputProducts:
    """Sums of ``x^T x`` of one block, one for each set of layers that take the very same tensors.

    Query, key and value do, so that one product serves three layers.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._taken: list[tuple[torch.Tensor, set[str], torch.Tensor]] = []
        self._sums: dict[frozenset[str], torch.Tensor] = {}

    def hook(self, layer: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        """For a layer, before it runs."""

        def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            for taken, layers, _product in self._taken:
                if taken is inputs[0]:
                    layers.add(layer)
                    return
            rows = inputs[0].detach().flatten(0, -2)
            rows = rows[:: max(1, -(-len(rows) // self._tokens))].float()
            self._taken.append((inputs[0], {layer}, rows.T @ rows))

        return note

    def end(self) -> None:
        """The block has run: only now is it known who shares."""
        for _, layers, product in self._taken:
            known = self._sums.setdefault(frozenset(layers), product)
            if known is not product:
                known += product
        self._taken.clear()

    def by_layer(self) -> dict[str, torch.Tensor]:
        """One matrix for every layer that ran."""
        found: dict[str, torch.Tensor] = {}
        for layers, product in self._sums.items():
            for layer in layers:
                found[layer] = product if layer not in found else found[layer] + product
        return found

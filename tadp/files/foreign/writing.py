"""Writing a plan to files, one tensor in memory at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tadp.files.foreign.kinds import ENDINGS, TURBODIFFUSION
from tadp.files.foreign.pieces import Outcome, Piece
from tadp.files.foreign.targets import Plan
from tadp.files.foreign.tensors import Stored
from tadp.files.saved import STEM
from tadp.files.shards import SHARD_BYTES, Entry, Slot, Written, fill_shards, remove_shards, write_shards
from tadp.writing import replacing

BESIDE = "beside"
"""What the file is named after with the tensors that a model's class has no place for."""


def check_target(to: str, out: Path) -> None:
    """Check the name of what will be written.

    Raises:
        ValueError: where it does not suit the format.
    """
    ending = ENDINGS.get(to)
    if ending is not None and out.suffix != ending:
        raise ValueError(f"{to} is one file: give it a name that ends with {ending}, not {out}")
    if ending is None and out.is_file():
        raise ValueError(f"{to} is a directory, and {out} is a file")
    if ending is not None and out.is_dir():
        raise ValueError(f"{to} is one file, and {out} is a directory")


def write(
    to: str,
    plan: Plan,
    out: Path,
    outcomes: list[Outcome],
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[Piece], object] = lambda piece: None,
) -> dict[str, Written]:
    """Write what was planned.

    Args:
        to: the format.
        plan: what `plan_for` returned for it.
        out: file or directory.
        outcomes: what was done is added to it.
        shard_bytes: that a file may hold, in formats of several.
        progress: is called with each piece when it is written.

    Returns:
        By key, where each tensor lies; nothing for PyTorch's files.

    Raises:
        ValueError: for sources that are damaged.
        OSError: where a file cannot be written; what was there before stays.
    """
    tensors = make(plan, outcomes, progress)
    if to == TURBODIFFUSION:
        _write_pickled(out, plan.slots, tensors)
        return {}
    if to in ENDINGS:
        total = sum(slot.nbytes for slot in plan.slots)
        return fill_shards(out.parent, out.stem, plan.slots, tensors, plan.metadata, max(total, 1))
    written = fill_shards(out, STEM, plan.slots, tensors, plan.metadata, shard_bytes)
    remove_shards(out, STEM, {place.file for place in written.values()})
    return written


def make(
    plan: Plan, outcomes: list[Outcome], progress: Callable[[Piece], object] = lambda piece: None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a plan by key, one piece after the other; what was done is added to `outcomes`."""
    for piece in plan.pieces:
        made, outcome = piece.make()
        outcomes.append(outcome)
        tensors = dict(made)
        del made
        while tensors:
            yield tensors.popitem()
        progress(piece)


def write_beside(out: Path, tensors: tuple[Stored, ...]) -> None:
    """Write tensors that a model's class has no place for into a file of their own, each in its own type."""
    remove_shards(out, BESIDE, ())
    if tensors:
        ordered = sorted(tensors, key=lambda stored: -stored.dtype.itemsize)
        entries = [Entry(stored.name, stored.dtype, stored.shape, stored.read) for stored in ordered]
        write_shards(out, BESIDE, entries, {}, max(1, sum(entry.nbytes for entry in entries)))


def _write_pickled(out: Path, slots: tuple[Slot, ...], tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
    """A state dict as ``torch.save`` writes it: first a file without content, then each tensor to its place.

    Files of this kind carry checksums that PyTorch does not compare; they stay those of no content.
    """
    with replacing(out) as path:
        with FakeTensorMode():
            heads = {slot.key: torch.empty(slot.shape, dtype=slot.dtype) for slot in slots}
        with torch.serialization.skip_data(materialize_fake_tensors=True):
            torch.save(heads, path)  # noqa: TID251
        with FakeTensorMode():
            found = torch.load(path, weights_only=True)  # noqa: TID251
        offsets = {key: int(head.untyped_storage()._checkpoint_offset) for key, head in found.items()}
        by_key = {slot.key: slot for slot in slots}
        with path.open("r+b") as file:
            for key, tensor in tensors:
                content = by_key[key].content(tensor)
                file.seek(offsets[key])
                file.write(content.view(-1).view(torch.uint8).numpy().data)
                del tensor, content

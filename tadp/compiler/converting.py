"""From a checkpoint of one format to another: which layers are quantized, and what goes beside the tensors."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch

from tadp.compiler.layers import block_linears
from tadp.compiler.quantization_config import TadpConfig
from tadp.compiler.rotating import UNMEASURED
from tadp.compiler.skeletons import skeleton_from
from tadp.files.fingerprint import versions
from tadp.files.foreign.kinds import DIFFUSERS, ENDINGS, TADP, TORCHAO
from tadp.files.foreign.names import wan_config
from tadp.files.foreign.opening import open_checkpoint
from tadp.files.foreign.pieces import Outcome, decibels, squares
from tadp.files.foreign.targets import Choice, Plan, linears_of, plan_for
from tadp.files.foreign.tensors import Checkpoint, Stored, slices
from tadp.files.foreign.writing import check_target, make, write, write_beside
from tadp.files.manifest import CONFIG, Manifest, digest_of
from tadp.files.saved import weights_digest
from tadp.files.shards import SHARD_BYTES, Written
from tadp.kernels.rotation import size_for
from tadp.writing import replacing

_WAN = "WanTransformer3DModel"


@dataclass(frozen=True)
class Order:
    """A conversion that can be done: everything that headers tell has been checked.

    Attributes:
        to: the format that is written.
        checkpoint: what is read.
        plan: what it becomes.
        config: of the model, in diffusers' terms; empty where nobody knows.
        model: without weights; None where nobody knows.
        beside: tensors that the model's class has no place for.
        rotated: roles of layers whose rows are rotated.
    """

    to: str
    checkpoint: Checkpoint
    plan: Plan
    config: Mapping[str, Any]
    model: torch.nn.Module | None
    beside: tuple[Stored, ...] = ()
    rotated: tuple[str, ...] = ()


def order(
    source: str | Path,
    to: str = TADP,
    config: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Order:
    """Open a checkpoint and decide what becomes of each tensor; no tensor is read.

    Args:
        source: as `open_checkpoint` takes it.
        to: one of `tadp.files.foreign.kinds.WRITTEN`.
        config: of the model, as diffusers or Wan's own repository write it; None: the one beside the tensors.
        dtype: compute type of the target; None: that of the source, and bfloat16 for one in float32.

    Raises:
        ValueError: for a source that is damaged, that no format fits, or that does not fit its configuration.
        MissingExtraError: as `open_checkpoint`.
    """
    checkpoint = open_checkpoint(source)
    known = dict(checkpoint.config if config is None else config)
    if checkpoint.is_wan and known.get("_class_name") == "WanModel":
        known = wan_config(known, [stored.name for stored in checkpoint.tensors])
    if config is None and not hasattr(diffusers, str(known.get("_class_name"))):
        known = {}  # of another program
    model = skeleton_from(known, f"the configuration of {checkpoint.path}") if known else None
    if model is None and to == TADP:
        raise ValueError(
            f"{checkpoint.path} has no config.json of diffusers, and which layers are packed is known from there: "
            "name one with --config"
        )
    if to == TADP and checkpoint.format == TADP:
        raise ValueError(f"{checkpoint.path} is a saved model of tadp already")
    compute = checkpoint.compute_dtype if dtype is None else dtype
    if dtype is None and compute not in (torch.bfloat16, torch.float16):
        compute = torch.bfloat16
    beside: tuple[Stored, ...] = ()
    if model is not None:
        fitting, beside = _fitted(checkpoint, model)
        if to in (TADP, DIFFUSERS, TORCHAO):
            checkpoint = replace(checkpoint, tensors=fitting)
        else:  # their own programs have places for what diffusers has none for
            beside, checkpoint = (), replace(checkpoint, tensors=(*fitting, *beside))
    choice, roles = _choice(checkpoint, model, known, compute)
    plan = plan_for(to, checkpoint, choice)
    rotated = {str(roles[name]) for name in plan.rotated if name in roles}
    return Order(to, checkpoint, plan, known, model, beside, tuple(sorted(rotated)))


def convert(
    what: Order,
    out: str | Path,
    shard_bytes: int = SHARD_BYTES,
    dry: bool = False,
    progress: Callable[[int], object] = lambda elements: None,
) -> tuple[Outcome, ...]:
    """Do it, one tensor in memory at a time.

    Args:
        what: what `order` returned.
        out: a directory, or the name of a file for formats that are one.
        shard_bytes: that a file may hold, in formats of several.
        dry: do everything but write.
        progress: is called with the elements of each tensor.

    Returns:
        What was done with each tensor.

    Raises:
        ValueError: for a source that is damaged or holds NaN, and for a name that does not suit the format.
        OSError: where a file cannot be written.
    """
    path = Path(out).expanduser()
    check_target(what.to, path)
    if path.resolve() == what.checkpoint.path.resolve():
        raise ValueError(f"{path} is the source: name another place")
    outcomes: list[Outcome] = []
    if dry:
        # Unlike a loop, a queue of no length keeps no tensor while the next one is made.
        deque(make(what.plan, outcomes, lambda piece: progress(torch.Size(piece.stored.shape).numel())), maxlen=0)
        return tuple(outcomes)
    written = write(
        what.to,
        what.plan,
        path,
        outcomes,
        shard_bytes,
        lambda piece: progress(torch.Size(piece.stored.shape).numel()),
    )
    if what.to not in ENDINGS:
        write_beside(path, what.beside)
        _write_config(what, path)
    if what.to == TADP:
        _manifest(what, written, path).save(path)
    return tuple(outcomes)


def verify(what: Order, out: str | Path, outcomes: tuple[Outcome, ...]) -> None:
    """Read what was written back, and compare it with the source and with what was reported of it.

    Raises:
        ValueError: where a tensor is missing, damaged, or further off than was said.
    """
    path = Path(out).expanduser()
    found = {stored.name: stored for stored in open_checkpoint(path).tensors}
    sources = {stored.name: stored for stored in what.checkpoint.tensors}
    if differing := sorted(set(found) ^ set(sources)):
        raise ValueError(f"{path}: {differing[0]} is in the source or in the target only")
    for outcome in outcomes:
        source, target = sources[outcome.name], found[outcome.name]
        same_size = torch.Size(source.shape).numel() == torch.Size(target.shape).numel()
        if source.shape != target.shape and same_size and target.scheme is None:
            target = target.in_shape(source.shape)  # a convolution that is a linear in the target
        if source.shape != target.shape:
            raise ValueError(f"{path}: {outcome.name} is {target.shape}, not {source.shape}")
        signal, noise = _compared(source, target)
        # Kept codes restore to the same bits; rotations restore to them but for the rounding of float32 sums.
        if noise > outcome.noise * (1 + 1e-3) + signal * 1e-12:
            off, was = decibels(signal, noise), outcome.decibels
            raise ValueError(f"{path}: {outcome.name} differs from the source by {off:.1f} dB, not by {was:.1f} dB")


def _compared(source: Stored, target: Stored) -> tuple[float, float]:
    if len(source.shape) < 2:
        return squares(source.read(), target.read())
    left, right, signal, noise = source.parts(), target.parts(), 0.0, 0.0
    for start, stop in slices(source.shape[0]):
        more = squares(left.rows(start, stop), right.rows(start, stop))
        signal, noise = signal + more[0], noise + more[1]
    return signal, noise


def _fitted(checkpoint: Checkpoint, model: torch.nn.Module) -> tuple[tuple[Stored, ...], tuple[Stored, ...]]:
    """The tensors that a model has places for, in its shapes, and the others."""
    expected = model.state_dict()
    found = {stored.name: stored for stored in checkpoint.tensors}
    kind = type(model).__name__
    if missing := [name for name in expected if name not in found]:
        raise ValueError(f"{checkpoint.path} does not fit {kind}: it lacks {', '.join(missing[:3])}")
    fitting = []
    for name, tensor in expected.items():
        stored, shape = found[name], tuple(tensor.shape)
        if stored.shape != shape and (stored.scheme is not None or tensor.numel() != torch.Size(stored.shape).numel()):
            raise ValueError(f"{checkpoint.path} does not fit {kind}: {name} is {stored.shape}, not {shape}")
        fitting.append(stored if stored.shape == shape else stored.in_shape(shape))
    return tuple(fitting), tuple(stored for name, stored in found.items() if name not in expected)


def _choice(
    checkpoint: Checkpoint, model: torch.nn.Module | None, config: Mapping[str, Any], dtype: torch.dtype
) -> tuple[Choice, dict[str, object]]:
    """What is quantized, and the roles of that by the names of weights."""
    is_wan = checkpoint.is_wan or config.get("_class_name") == _WAN
    kind = type(model) if model is not None else getattr(diffusers, _WAN) if is_wan else None
    in_float32 = tuple(getattr(kind, "_keep_in_fp32_modules", None) or ())
    if model is None:
        return Choice(dtype, dict.fromkeys(linears_of(checkpoint.tensors), 0), frozenset(), in_float32, is_wan), {}
    chosen = {linear.layer: linear for linear in block_linears(model) if not linear.reason}
    layers = {
        layer: size_for(linear.module.in_features) if linear.role in UNMEASURED else 0
        for layer, linear in chosen.items()
    }
    buffers = frozenset(name for name, _ in model.named_buffers())
    roles: dict[str, object] = {f"{layer}.weight": linear.role for layer, linear in chosen.items()}
    return Choice(dtype, layers, buffers, in_float32, is_wan), roles


def _packing(what: Order) -> dict[str, object]:
    return {
        "group_size": None,
        "rotated": list(what.rotated),
        "balance": None,
        "codes": None,
        "converted_from": what.checkpoint.format,
    }


def _write_config(what: Order, path: Path) -> None:
    config = {name: value for name, value in what.config.items() if name != "quantization_config"}
    if not config:
        return
    if what.to == TADP:
        quantization = TadpConfig(fingerprint=what.plan.fingerprint, packing=_packing(what))
        config["quantization_config"] = quantization.to_dict()
    elif what.to == TORCHAO:
        from diffusers import TorchAoConfig
        from torchao.quantization import Int8WeightOnlyConfig

        # What diffusers would not have quantized itself it reads as it lies in the files.
        config["quantization_config"] = TorchAoConfig(Int8WeightOnlyConfig()).to_dict()
    with replacing(path / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _manifest(what: Order, written: Mapping[str, Written], path: Path) -> Manifest:
    kind = type(what.model)
    return Manifest(
        fingerprint=what.plan.fingerprint,
        model=f"{kind.__module__}.{kind.__qualname__}",
        tensors=written,
        weights=weights_digest(what.plan.metadata),
        config=digest_of(path / CONFIG),
        packing=_packing(what),
        versions=versions(),
    )

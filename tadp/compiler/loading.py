"""`tadp.load`: from a saved model or pipeline to a compiled one, without packing anything."""

import json
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError

from tadp.compiler.model import join_pipeline, transformers_of
from tadp.compiler.packing import Origin
from tadp.compiler.skeletons import skeleton_of
from tadp.compiler.state import methods_of
from tadp.compiler.transformer import AUTO, compile_transformer, named, order_for
from tadp.families import component_dtypes
from tadp.families.family import plain_name
from tadp.files.fingerprint import fingerprint_of
from tadp.files.manifest import NAME, Manifest
from tadp.files.saved import SavedTensors
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.formats import FORMATS
from tadp.planning.calibration import Calibration
from tadp.policy import Policy, parse
from tadp.policy.policy import DEFAULT
from tadp.runtime.checkpoint import CheckpointFile, CheckpointMasters, Place
from tadp.runtime.controller import Controller


def load(
    directory: str | Path,
    policy: str | Policy | None = None,
    device: torch.device | str = "cpu",
    *,
    model: torch.nn.Module | None = None,
    widths: int = 8,
    masters: str | Path | None = None,
    calibration: Calibration | str | Path | None = AUTO,
    precompile: bool = True,
    dynamic: bool | None = None,
    **torch_compile_options: Any,
) -> Any:
    """Load what `tadp.save` wrote; a model or a pipeline that is compiled.

    Nothing is packed, and the original checkpoint is not needed. Every tensor is compared with its checksum as it is
    read; on a CPU weights stay backed by their files.

    Args:
        directory: of a model or of a pipeline.
        policy: as `tadp.compile` takes it; None: the one that the model followed when it was saved.
        device: where the model goes.
        model: for classes that are not diffusers': a module of the saved class, which may be on the meta device. It
            becomes the loaded one.
        widths: bits up to which weights are read: at 4, half of the planes are left in the file. A wider level reads
            what it needs when it is first asked for.
        masters: a directory of the safetensors files that the model was packed from: blocks at 16 bits then run on
            these. None: they run on what 8 bits restore, and ``explain()`` says so.
        calibration: as `tadp.compile` takes it; "auto" finds the one that was saved with the model.
        precompile: as `tadp.compile` takes it.
        dynamic: likewise.
        torch_compile_options: passed to `torch.compile`, as in `tadp.compile`.

    Returns:
        The module, or the diffusers pipeline, with its `Controller` as attribute ``tadp``.

    Raises:
        ValueError: for a directory that holds no saved model, for files that are damaged, of a newer version, or do not
            fit the model, and for what `tadp.compile` refuses. A module that was passed is left as it was.
    """
    path = Path(directory)
    if widths not in FORMATS:
        raise ValueError(f"widths is one of {tuple(FORMATS)}, not {widths!r}")
    if (path / "model_index.json").exists():
        if model is not None or masters is not None:
            raise ValueError("model and masters are of one transformer: load the pipeline's directory without them")
        options = {"precompile": precompile, "dynamic": dynamic, **torch_compile_options}
        return _load_pipeline(path, policy, device, widths, calibration, options)
    manifest = Manifest.load(path)
    manifest.check_config(path)
    tensors = SavedTensors(path, manifest)
    skeleton = _skeleton(path, manifest) if model is None else model
    if isinstance(getattr(skeleton, "tadp", None), Controller):
        raise ValueError("the model is compiled already: pass one that is not, or load a state dict into it")
    chosen = parse(_policy_of(manifest) if policy is None else policy)
    found = dict(tensors.read(widths, device))
    _check_names(path, skeleton, found)
    origin = Origin(
        manifest.fingerprint,
        manifest.packing,
        None if masters is None else _masters_at(Path(masters), manifest.fingerprint, skeleton, found),
        _Planes(tensors),
    )
    order = order_for(skeleton, chosen, named(calibration), None, None, AUTO, None, origin, directories=(path,))
    _assign(skeleton, found, torch.device(device))
    if hasattr(skeleton, "register_to_config"):
        cast(Any, skeleton).register_to_config(_name_or_path=str(path))
    compile_transformer(skeleton.eval(), order, precompile, dict(torch_compile_options), methods_of, dynamic)
    return skeleton


class _Planes:
    """Planes of a saved model, for the pool."""

    def __init__(self, tensors: SavedTensors) -> None:
        self._tensors = tensors

    def get(self, layer: str, plane: str, device: torch.device) -> torch.Tensor:
        return self._tensors.plane(f"{layer}.weight", plane).to(device)

    def __deepcopy__(self, memo: object) -> "_Planes":
        return self


def _load_pipeline(
    path: Path,
    policy: str | Policy | None,
    device: torch.device | str,
    widths: int,
    calibration: Calibration | str | Path | None,
    options: Mapping[str, Any],
) -> Any:
    saved = sorted(file.parent for file in path.glob(f"*/{NAME}"))
    if not saved:
        raise ValueError(f"no component of the pipeline in {path} was saved by tadp.save: none has a {NAME}")
    own = {
        folder.name: load(folder, policy, device, widths=widths, calibration=calibration, **options) for folder in saved
    }
    import diffusers  # only files of its models need it

    packed = (weight for module in own.values() for weight in module.parameters() if isinstance(weight, BitPlaneWeight))
    dtype = next(packed).dtype
    index = diffusers.DiffusionPipeline.load_config(path)
    types = {name: getattr(torch, named) for name, named in component_dtypes(str(index.get("_class_name"))).items()}
    with warnings.catch_warnings():
        # Its successor `dtype` is unknown to the older releases of diffusers that tadp supports.
        warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
        with _without(path, own) as rest:  # diffusers would load what it is passed for an optional component once more
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                rest, torch_dtype={**types, "default": dtype} if types else dtype
            )
    pipeline.register_modules(**own)
    pipeline.register_to_config(_name_or_path=str(path))
    transformers = [one for one in transformers_of(pipeline) if isinstance(getattr(one, "tadp", None), Controller)]
    join_pipeline(pipeline, transformers, [module.tadp for module in transformers])  # type: ignore[misc]
    return pipeline.to(device)


@contextmanager
def _without(path: Path, components: Collection[str]) -> Iterator[Path]:
    """A directory that is a pipeline's but for some components, which its index says there are none of."""
    with tempfile.TemporaryDirectory() as folder:
        for file in path.iterdir():
            if file.name not in ("model_index.json", *components):
                (Path(folder) / file.name).symlink_to(file.resolve())
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        index |= {name: [None, None] for name in components}
        (Path(folder) / "model_index.json").write_text(json.dumps(index))
        yield Path(folder)


def _skeleton(path: Path, manifest: Manifest) -> torch.nn.Module:
    if not (path / "config.json").exists():
        raise ValueError(
            f"{path} has no config.json: the saved model is a {manifest.model}, which is not of diffusers. "
            "Build one and pass it: tadp.load(directory, model=...)"
        )
    return skeleton_of(path / "config.json")


def _check_names(path: Path, model: torch.nn.Module, found: Mapping[str, torch.Tensor]) -> None:
    expected = {plain_name(name): tensor for name, tensor in model.state_dict().items()}
    if missing := [name for name in expected if name not in found]:
        raise ValueError(f"{path} does not fit {type(model).__name__}: it lacks {', '.join(missing)}")
    if unexpected := [name for name in found if name not in expected]:
        raise ValueError(f"{path} does not fit {type(model).__name__}, which has no {', '.join(unexpected)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path} does not fit {type(model).__name__}: {name} is {tuple(tensor.shape)}, "
                f"not {tuple(expected[name].shape)}"
            )


def _assign(model: torch.nn.Module, found: Mapping[str, torch.Tensor], device: torch.device) -> None:
    real = {plain_name(name): name for name in model.state_dict()}
    for name, tensor in found.items():
        path, _, leaf = real[name].rpartition(".")
        owner = model.get_submodule(path)
        if leaf in owner._parameters:
            owner._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=False)
        else:
            owner._buffers[leaf] = tensor
    for module in model.modules():
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[leaf] = buffer.to(device)


def _policy_of(manifest: Manifest) -> str:
    """The policy that a model followed when it was saved, if this version knows it."""
    if not manifest.policy:
        return DEFAULT
    try:
        parse(manifest.policy)
    except ValueError as error:
        warnings.warn(f"the saved policy cannot be followed, {DEFAULT!r} is taken in its place: {error}", stacklevel=4)
        return DEFAULT
    return manifest.policy


def _masters_at(
    directory: Path, fingerprint: str, model: torch.nn.Module, found: Mapping[str, torch.Tensor]
) -> CheckpointMasters:
    """The weights that a model was packed from, in the files of a directory.

    Raises:
        ValueError: where they are not there, or are those of another model.
    """
    packed = [name for name, weight in found.items() if isinstance(weight, BitPlaneWeight)]
    places: dict[str, Place] = {}
    for path in sorted(directory.glob("*.safetensors")):
        try:
            file = CheckpointFile(path)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        places |= {name: Place(file, name) for name in packed if name in file.keys}
    if missing := [name for name in packed if name not in places]:
        raise ValueError(f"the files in {directory} do not hold {', '.join(missing[:3])}, which 16 bits need")
    for name, place in places.items():
        weight, stored = found[name], place.file.get(name)
        if stored.shape != weight.shape or stored.dtype != weight.dtype:
            raise ValueError(f"{name} in {place.file.path} is {tuple(stored.shape)} of {stored.dtype}, not the model's")
    if fingerprint:
        names = [plain_name(name) for name, _ in model.named_parameters()]
        whole = [(name, places[name].file.get(name) if name in places else found[name]) for name in names]
        if fingerprint_of(whole) != fingerprint:
            raise ValueError(f"the files in {directory} are not those that the model was packed from")
    return CheckpointMasters({name.removesuffix(".weight"): place for name, place in places.items()})

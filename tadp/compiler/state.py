"""The state of a compiled model, as PyTorch's own calls take it: state dicts, copies, pickles, `save_pretrained`."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from tadp.compiler.offloading import offload
from tadp.compiler.packing import Origin, spill
from tadp.compiler.refusals import refusals
from tadp.compiler.restoring import restore_transformer
from tadp.compiler.saving import save_transformer, shard_bytes
from tadp.compiler.transformer import Belongings, compile_transformer, order_for
from tadp.errors import CalibrationWarning, PrecisionFallbackWarning
from tadp.families.family import plain_name
from tadp.families.names import is_adapter
from tadp.files.saved import STEM
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.formats import FORMATS
from tadp.planning.calibration import Calibration
from tadp.policy import Policy
from tadp.precision import L16
from tadp.runtime.checkpoint import CheckpointMasters
from tadp.runtime.controller import Controller

IN_8_BITS = (
    "state_dict of a compiled model holds its packed weights, also of blocks that run at 16 bits: for the weights as "
    "they were, take tadp.restore(model).state_dict(), and for files tadp.save(model, directory)"
)


ADAPTING = ("load_lora_adapter", "add_adapter", "fuse_lora", "unfuse_lora", "unload_lora")
"""Methods of diffusers' models that change which layers have adapters, or what layers are."""


def methods_of(belongings: Belongings) -> Mapping[str, Callable[..., Any]]:
    """What takes the place of a module's own methods while it is compiled."""

    def state_dict(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if "state_dict" not in belongings.warned and any(recipe.has(L16) for _, recipe in belongings.controller.plan):
            belongings.warned.add("state_dict")
            warnings.warn(IN_8_BITS, PrecisionFallbackWarning, stacklevel=2)
        with belongings.offloading.at_rest():
            belongings.controller.complete_planes()
            return torch.nn.Module.state_dict(self, *args, **kwargs)

    def load_state_dict(
        self: torch.nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        with belongings.offloading.at_rest():
            return load_state(self, belongings, state_dict, strict, assign)

    def save_packed(self: torch.nn.Module, directory: Path, stem: str, shard_size: int) -> None:
        with belongings.offloading.at_rest():
            save_transformer(self, directory, stem, shard_size)

    def save_pretrained(
        self: torch.nn.Module,
        save_directory: str | Path,
        is_main_process: bool = True,
        save_function: object = None,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str = "10GB",
        push_to_hub: bool = False,
        **options: Any,
    ) -> None:
        """As diffusers has it; writes what `tadp.save` does."""
        if not safe_serialization or options.pop("use_flashpack", False):
            raise ValueError("packed weights are saved as safetensors files only: leave safe_serialization at True")
        if is_main_process:
            stem = f"{STEM}.{variant}" if variant else STEM
            save_packed(self, Path(save_directory), stem, shard_bytes(max_shard_size))
            if push_to_hub:
                _upload(Path(save_directory), options)

    def enable_group_offload(self: torch.nn.Module, *args: Any, **options: Any) -> None:
        """As diffusers has it: blocks wait in main memory and come to the device one ahead."""
        theirs = getattr(super(type(self), self), "enable_group_offload")  # noqa: B009  whose arguments these are
        given = inspect.signature(theirs).bind(*args, **options).arguments
        onload, waits = given.pop("onload_device"), given.pop("offload_device", "cpu")
        offload(self, belongings.offloading, onload, waits, given)

    def reduce(self: torch.nn.Module, protocol: object) -> tuple[Any, ...]:
        if belongings.offloading.streamer is not None:
            raise ValueError(
                "a model whose blocks are offloaded cannot be copied or pickled: tadp.save it, and load it again"
            )
        return rebuild, _parts(self, belongings)

    return {
        "state_dict": state_dict,
        "load_state_dict": load_state_dict,
        "save_pretrained": save_pretrained,
        "__reduce_ex__": reduce,
        **{name: _adapting(name, belongings) for name in ADAPTING},
        **refusals(),
        "enable_group_offload": enable_group_offload,
        "_save_packed": save_packed,
        "_restore_16_bits": lambda self: restore_transformer(self, belongings),
    }


def _adapting(name: str, belongings: Belongings) -> Callable[..., Any]:
    """A method of diffusers after and before which side paths are what adapters say."""

    def method(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        belongings.adapters.follow(self)
        with warnings.catch_warnings():
            # Of peft: it could not merge into a torchao weight; here a packed weight is merged into by other means.
            warnings.filterwarnings("ignore", message=".*get_apply_tensor_subclass.*")
            try:
                with belongings.offloading.at_rest():
                    result = getattr(super(type(self), self), name)(*args, **kwargs)
            except NotImplementedError as error:
                raise ValueError(
                    f"{name}: this kind of adapter computes with the 16-bit weights, which a compiled model does not "
                    f"have ({error}). Undo tadp.compile with tadp.restore(model), load the adapter, and compile again"
                ) from error
        belongings.adapters.forget()
        belongings.adapters.follow(self)
        return result

    return method


def load_state(
    model: torch.nn.Module, belongings: Belongings, state: Mapping[str, Any], strict: bool, assign: bool
) -> Any:
    """Load a state dict into a compiled model: packed weights as they are, plain ones packed as the model's are.

    Everything is checked and packed before anything changes.

    Args:
        model: compiled.
        belongings: of the model.
        state: tensors by name.
        strict: as `nn.Module.load_state_dict` has it.
        assign: likewise; packed weights are always assigned.

    Returns:
        What `nn.Module.load_state_dict` returns.

    Raises:
        RuntimeError: for missing and unexpected names where `strict`, and for tensors of other shapes.
        ValueError: for weights that cannot be packed.
    """
    real = {_plain(name): name for name in torch.nn.Module.state_dict(model)}
    own = {_plain(name): tensor for name, tensor in torch.nn.Module.state_dict(model).items()}
    state = {_plain(name): tensor for name, tensor in state.items()}
    linears = {f"{linear.layer}.weight": linear for linear in belongings.packed}
    missing, unexpected = [name for name in own if name not in state], [name for name in state if name not in own]
    problems = [f"{what} {', '.join(names)}" for what, names in (("missing", missing), ("unexpected", unexpected))]
    problems = [problem for problem, names in zip(problems, (missing, unexpected), strict=True) if names and strict]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems += [
        f"{name} has the planes of {tensor.widest} bits only"
        for name, tensor in state.items()
        if isinstance(tensor, BitPlaneWeight) and tensor.widest < max(FORMATS)
    ]
    if belongings.adapters.any_fused:
        problems.append("adapters are fused into its weights, call unfuse_lora first")
    if problems:
        raise RuntimeError(
            f"the state dict does not fit this compiled {type(model).__name__}, which is left as it was: "
            + "; ".join(problems)
        )
    given = {name: state[name] for name in linears if name in state}
    packed = {name: _as_packed(name, tensor, cast(BitPlaneWeight, own[name])) for name, tensor in given.items()}
    plain = {
        linears[name].layer: tensor.detach().to("cpu", own[name].dtype)
        for name, tensor in given.items()
        if not isinstance(tensor, BitPlaneWeight)
    }
    written = spill(plain) if plain else None
    changed = any(not _equal(weight, cast(BitPlaneWeight, own[name])) for name, weight in packed.items())
    rest = {real[name]: tensor for name, tensor in state.items() if name in own and name not in linears}
    keys = torch.nn.Module.load_state_dict(model, rest, strict=False, assign=assign)
    for name, weight in packed.items():
        linears[name].module.weight = torch.nn.Parameter(weight, requires_grad=False)
    adopted = [(linear.block, linear.layer, cast(BitPlaneWeight, linear.module.weight)) for linear in linears.values()]
    kept = belongings.pool.masters
    assert isinstance(kept, CheckpointMasters)
    others = kept.without(linears[name].layer for name in given)
    belongings.pool.adopt(adopted, CheckpointMasters(written=written, others=others), belongings.pool.plane_file)
    belongings.controller.relocate()
    if changed:
        _forget(belongings.controller)
    return type(keys)(missing, unexpected)


def rebuild(
    base: type[torch.nn.Module],
    state: Mapping[str, Any],
    policy: Policy,
    calibration: Calibration | None,
    origin: Origin,
    precompile: bool,
    dynamic: bool | None,
    options: Mapping[str, Any],
) -> torch.nn.Module:
    """A compiled model from what a copy or a pickle holds of one; it has a controller of its own.

    Args:
        base: class of the model before it was compiled.
        state: attributes of the module, without its controller.
        policy: that it followed.
        calibration: of the model.
        origin: of its weights.
        precompile: as `tadp.compile` took it.
        dynamic: likewise.
        options: of torch.compile.
    """
    model = base.__new__(base)
    model.__setstate__(dict(state))
    known = calibration if origin.fingerprint else None  # of weights that changed since, it does not hold
    order = order_for(model, policy, known, None, None, "auto", None, origin, directories=())
    compile_transformer(model, order, precompile, dict(options), methods_of, dynamic)
    return model


def _parts(model: torch.nn.Module, belongings: Belongings) -> tuple[Any, ...]:
    """The arguments of `rebuild` for a model."""
    controller = belongings.controller
    controller.complete_planes()
    state = torch.nn.Module.__getstate__(model)
    state = {name: value for name, value in state.items() if name != "tadp"}
    masters = belongings.pool.masters
    assert masters is None or isinstance(masters, CheckpointMasters)
    origin = Origin(controller.facts.fingerprint, controller.facts.packing, masters)
    base = type(model).__mro__[1]
    how = belongings.precompile, controller.dynamic, belongings.options
    return base, state, controller.policy, controller.calibration, origin, *how


def _as_packed(name: str, tensor: torch.Tensor, own: BitPlaneWeight) -> BitPlaneWeight:
    """A tensor of a state dict as a packed weight of its own, on the device and for the type of the model's."""
    if isinstance(tensor, BitPlaneWeight):
        return cast(BitPlaneWeight, tensor.detach().to(own.device, own.dtype).clone())
    plain = tensor.detach().to(own.device, own.dtype)
    try:
        return BitPlaneWeight.from_hp(plain, own.group_size, own.factors, own.rotation)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; the model is left as it was") from error


def _plain(name: str) -> str:
    """A name of a state dict as it is in a model without adapters; that of an adapter as it is."""
    return name if is_adapter(name) else plain_name(name)


def _equal(weight: BitPlaneWeight, other: BitPlaneWeight) -> bool:
    parts = ("high", "mid", "low", "scale")
    return all(torch.equal(getattr(weight, part), getattr(other, part)) for part in parts)


def _forget(controller: Controller) -> None:
    controller.identify("")
    if controller.calibration is not None:
        warnings.warn(
            "other weights were loaded than those that the calibration was measured on: calibrate again",
            CalibrationWarning,
            stacklevel=4,
        )


def _upload(directory: Path, options: dict[str, Any]) -> None:
    """Send a directory to the Hugging Face Hub."""
    from huggingface_hub import create_repo, upload_folder

    repository = options.pop("repo_id", directory.name)
    token = options.pop("token", None)
    made = create_repo(repository, exist_ok=True, private=options.pop("private", None), token=token)
    upload_folder(
        repo_id=made.repo_id,
        folder_path=directory,
        token=token,
        commit_message=options.pop("commit_message", None),
        create_pr=options.pop("create_pr", False),
    )

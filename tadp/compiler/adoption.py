"""Putting a controller in charge of a module or a pipeline, without changing what either looks like from outside.

The object stays the same and gets a subclass of its own class, as PyTorch's FSDP2 does: forward, attributes, config,
state_dict and isinstance are untouched, and only the call goes through the controller.
"""

import functools
import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException, TorchRuntimeError

from tadp.compiler.refusals import check_gradients
from tadp.compiler.shapes import Shapes
from tadp.compiler.timesteps import TimestepReader
from tadp.complexity import image as pictures
from tadp.families.family import Family
from tadp.runtime.controller import Controller

SHAPE_COMPLAINTS = (
    "shapes cannot be multiplied",
    "size of tensor",
    "Sizes of tensors",
    "expected input",
    "normalized_shape",
)


Relocate = Callable[[Callable[[torch.Tensor], torch.Tensor], Callable[[], object]], object]
"""Applies a function to packed weights in its own way, and calls back for everything else."""


def adopt_module(
    model: torch.nn.Module,
    controller: Controller,
    relocate: Relocate,
    family: Family,
    methods: Mapping[str, Callable[..., object]],
    prepare: Callable[[torch.nn.Module], None],
    shapes: Shapes,
) -> None:
    """Make every call of `model` a step of its controller, which becomes the attribute ``tadp``.

    `methods` take the place of those that its class has, or are private. `prepare` is called before each forward.
    `shapes` says what Dynamo captures blocks for in a call.
    """
    names = tuple(inspect.signature(model.forward).parameters)
    base = type(model)
    timesteps = TimestepReader(family.timestep)

    @functools.wraps(base.__call__)
    def call(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        given = {**dict(zip(names, args, strict=False)), **kwargs}  # too many or too few: forward itself will say so
        check_gradients(given)
        tensors = _floating(given)
        try:
            with torch.no_grad(), shapes.settings(given):
                prepare(self)
                timestep = timesteps.read(given)
                result = controller.step(timestep, lambda: torch.nn.Module.__call__(self, *args, **kwargs), tensors)
            shapes.keep(given)
            controller.warn_of_what_is_missing()
            return result
        except RuntimeError as error:
            inside_compiler = isinstance(error, TorchDynamoException) and not isinstance(error, TorchRuntimeError)
            if inside_compiler or not _is_about_shapes(error):
                raise
            given_shapes = ", ".join(f"{name} {tuple(value.shape)} {value.dtype}" for name, value in tensors)
            raise ValueError(f"{base.__name__} cannot run on {given_shapes}: {_first_line(error)}") from error

    def apply(self: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> object:
        """What `to`, `cuda`, `half` and their like come down to."""
        return relocate(function, lambda: base._apply(self, function, recurse))

    members: dict[str, object] = {
        **{name: method for name, method in methods.items() if name.startswith("_") or hasattr(base, name)},
        "__call__": torch.compiler.disable(call),  # a torch.compile around the model leaves its forward alone
        "_apply": apply,
        "__module__": base.__module__,
        "__doc__": base.__doc__,
    }
    if hasattr(base, "cache_context"):
        members["cache_context"] = _observed_cache_context(base, controller)
    model.__class__ = _stand_in(base, members)
    model.tadp = controller  # type: ignore[assignment]


class _BlockApply:
    """What `to` and its like come down to where they are called on a single block of a compiled model."""

    def __init__(self, block: torch.nn.Module, relocate: Relocate) -> None:
        self._block, self._relocate = weakref.ref(block), relocate

    def __call__(self, function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> object:
        block = self._block()
        assert block is not None  # whose attribute this is
        return self._relocate(function, lambda: type(block)._apply(block, function, recurse))

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # compiling a copy of the model gives its blocks their own


def adopt_block(block: torch.nn.Module, relocate: Relocate) -> None:
    """Let `relocate` move a block's packed weights when the block is moved by itself."""
    object.__setattr__(block, "_apply", _BlockApply(block, relocate))


def release_block(block: torch.nn.Module) -> None:
    """Undo `adopt_block`."""
    block.__dict__.pop("_apply", None)


def _stand_in(base: type, members: Mapping[str, object]) -> type:
    """A subclass that is taken for its base where classes are compared, as diffusers does with a pipeline's parts."""

    def equal(cls: type, other: object) -> bool:
        return other is cls or other is base

    kind = type(
        f"StandInFor{type(base).__name__}", (type(base),), {"__eq__": equal, "__hash__": lambda cls: hash(base)}
    )
    made: type = kind(base.__name__, (base,), dict(members))
    return made


def adopt_pipeline(pipeline: Any, controllers: tuple[Controller, ...]) -> None:
    """Make every call of a diffusers pipeline announce its prompt, image and number of steps."""
    base = type(pipeline)
    signature = inspect.signature(base.__call__)

    @functools.wraps(base.__call__)
    def call(self: object, *args: object, **kwargs: object) -> object:
        given: dict[str, Any] = signature.bind(self, *args, **kwargs).arguments
        prompt = given.get("prompt")
        steps, scale = (
            given.get(name, getattr(signature.parameters.get(name), "default", None))
            for name in ("num_inference_steps", "guidance_scale")
        )
        _check_prompt(prompt)
        image = _scorable(given.get("image"))
        for controller in {id(controller.clock): controller for controller in controllers}.values():
            controller.begin(
                prompt=prompt,
                image=image,
                num_steps=steps if isinstance(steps, int) else None,
                guidance_scale=scale if isinstance(scale, (int, float)) else None,
            )
        return base.__call__(self, *args, **kwargs)

    members = {
        "__call__": call,
        **_offloads(base),
        "__module__": base.__module__,
        "__doc__": base.__doc__,
    }
    pipeline.__class__ = type(base.__name__, (base,), members)


def _offloads(base: type) -> dict[str, object]:
    """Diffusers' calls that offload a pipeline: compiled transformers stream their blocks under the same names."""

    def compiled(self: Any) -> list[str]:
        parts = self.components.items()
        return [name for name, part in parts if isinstance(getattr(part, "tadp", None), Controller)]

    def enable_group_offload(self: Any, *args: object, **kwargs: object) -> object:
        given = inspect.signature(base.enable_group_offload).bind(self, *args, **kwargs).arguments  # type: ignore[attr-defined]
        given.pop("self")
        names = given.pop("exclude_modules", None) or []
        excluded = [names] if isinstance(names, str) else list(names)
        for name in compiled(self):
            if name not in excluded:
                self.components[name].enable_group_offload(**given)
        return base.enable_group_offload(self, **given, exclude_modules=[*excluded, *compiled(self)])  # type: ignore[attr-defined]

    def enable_sequential_cpu_offload(self: Any, gpu_id: int | None = None, device: Any = None) -> object:
        own = compiled(self)
        before = self._exclude_from_cpu_offload
        try:
            self._exclude_from_cpu_offload = [*before, *own]
            streamed = {name: self.components[name] for name in own if name not in before}
            for part in streamed.values():
                part.enable_group_offload("cpu")  # nothing of it is moved to the device but what a block reads
            result = base.enable_sequential_cpu_offload(self, gpu_id, device)  # type: ignore[attr-defined]
            for part in streamed.values():
                part.enable_group_offload(self._offload_device)
        finally:
            self._exclude_from_cpu_offload = before
        return result

    methods = {
        "enable_group_offload": enable_group_offload,
        "enable_sequential_cpu_offload": enable_sequential_cpu_offload,
    }
    return {name: method for name, method in methods.items() if hasattr(base, name)}


def _observed_cache_context(base: type, controller: Controller) -> object:
    """Diffusers' pipelines name guidance branch and step through this context manager; newer ones pass both."""

    @contextmanager
    def cache_context(self: object, name: str, *args: object, **kwargs: object) -> Iterator[None]:
        step = kwargs.get("step_index")
        controller.clock.announce(name, step if isinstance(step, int) else None)
        try:
            with base.cache_context(self, name, *args, **kwargs):  # type: ignore[attr-defined]
                yield
        finally:
            controller.clock.announce(None, None)

    return cache_context


def _check_prompt(prompt: object) -> None:
    """Say that an empty prompt, which is a prompt like any other, tells nothing of the content."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if isinstance(prompts, list) and any(isinstance(text, str) and not text.strip() for text in prompts):
        warnings.warn(
            "a prompt is empty, so it scores as the simplest: what the signals of the first steps say still counts",
            UserWarning,
            stacklevel=4,
        )


def _scorable(image: object) -> object | None:
    """The image, unless it cannot be scored: pipelines take latents and other things that are no pictures as well."""
    if image is None:
        return None
    try:
        pictures.mean_total(image)  # once more in `begin`, from the cache
    except (TypeError, ValueError) as error:
        warnings.warn(f"the image does not count in the complexity score: {error}", stacklevel=3)
        return None
    return image


def _floating(arguments: Mapping[str, object]) -> list[tuple[str, torch.Tensor]]:
    return [
        (name, value)
        for name, value in arguments.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    ]


def _is_about_shapes(error: RuntimeError) -> bool:
    """Whether PyTorch refused tensors that do not fit together, as against running out of memory and the like."""
    return any(part in str(error) for part in SHAPE_COMPLAINTS)


def _first_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if _is_about_shapes(RuntimeError(line))), lines[0] if lines else "")

"""Putting a controller in charge of a module or a pipeline, without changing what either looks like from outside.

The object stays the same and gets a subclass of its own class, as PyTorch's FSDP2 does: forward, attributes, config,
state_dict and isinstance are untouched, and only the call goes through the controller.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException, TorchRuntimeError

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
    model: torch.nn.Module, controller: Controller, relocate: Relocate, family: Family, shapes: Shapes
) -> None:
    """Make every call of `model` a step of its controller, which becomes the attribute ``tadp``.

    `shapes` says what Dynamo captures blocks for in a call.
    """
    names = tuple(inspect.signature(model.forward).parameters)
    base = type(model)
    timesteps = TimestepReader(family.timestep)

    @functools.wraps(base.__call__)
    def call(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        given = {**dict(zip(names, args, strict=False)), **kwargs}  # too many or too few: forward itself will say so
        tensors = _floating(given)
        try:
            with torch.no_grad(), shapes.settings(given):
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
        "__call__": call,
        "_apply": apply,
        "__module__": base.__module__,
        "__doc__": base.__doc__,
    }
    if hasattr(base, "cache_context"):
        members["cache_context"] = _observed_cache_context(base, controller)
    model.__class__ = type(base.__name__, (base,), members)
    model.tadp = controller  # type: ignore[assignment]


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

    members = {"__call__": call, "__module__": base.__module__, "__doc__": base.__doc__}
    pipeline.__class__ = type(base.__name__, (base,), members)


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
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if isinstance(prompts, list) and any(isinstance(text, str) and not text.strip() for text in prompts):
        raise ValueError("the prompt is empty: describe what the clip is to show, or pass prompt_embeds")


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

"""Models of diffusers without weights, built from their configurations."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch


def skeleton_of(file: Path) -> torch.nn.Module:
    """A module of the class that a ``config.json`` names; what is not saved, such as tables of positions, is there.

    Raises:
        ValueError: where the file is damaged, or of no model that this diffusers has; names file and field.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content["_class_name"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged: it has no field '_class_name' ({error})") from error
    return skeleton_from(content, str(file))


def skeleton_from(config: Mapping[str, Any], where: str) -> torch.nn.Module:
    """The same from what such a file holds; `where` it is from, for messages.

    Raises:
        ValueError: as `skeleton_of`.
    """
    import diffusers  # only files of its models need it

    name = str(config.get("_class_name"))
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise ValueError(f"field '_class_name' of {where} is {name!r}, which is no model of this diffusers")
    content = {field: value for field, value in config.items() if field != "quantization_config"}
    try:
        with _without_weights():
            return cast(torch.nn.Module, cast(Any, kind).from_config(content))
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{where} is damaged, {name} cannot be built from it: {error}") from error


def _without_weights() -> AbstractContextManager[object]:
    """Parameters that are made inside are on the meta device; buffers are not, as they may be computed."""
    try:
        from accelerate import init_empty_weights
    except ImportError:
        return nullcontext()
    return cast(AbstractContextManager[object], init_empty_weights(include_buffers=False))

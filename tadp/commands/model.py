"""From a model's name to a compiled pipeline: defaults, checks of the files on disk, loading, compiling."""

import json
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError, safe_open

import tadp
from tadp import processor
from tadp.commands.errors import InputError
from tadp.commands.settings import AUTO, Settings
from tadp.compiler.quantizer import let_diffusers_read_saved_models
from tadp.demo import FEATURE_RANGES, FEW_STEP_DIR, PIPELINE_DIR
from tadp.demo.few_steps import few_step_parts
from tadp.families import component_dtypes
from tadp.pipelines import call_parameters
from tadp.policy import Complexity, Policy, parse
from tadp.precision import Role
from tadp.runtime.compiled import Control

EMBEDDED_DEFAULTS: Mapping[str, Any] = {
    "num_inference_steps": 20,
    "num_frames": 17,
    "height": 64,
    "width": 64,
    "guidance_scale": 4.0,
    "max_sequence_length": 64,
}
FEW_STEP_DEFAULTS: Mapping[str, Any] = {**EMBEDDED_DEFAULTS, "num_inference_steps": 4, "guidance_scale": 1.0}
FEW_STEP = "few-step"
"""The name of the second embedded model."""
_ARGUMENT_NAMES = {
    "steps": "num_inference_steps",
    "frames": "num_frames",
    "height": "height",
    "width": "width",
    "guidance": "guidance_scale",
    "max_sequence_length": "max_sequence_length",
}
_WEIGHT_SUFFIXES = (".safetensors", ".bin")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_embedded(model: str | None) -> bool:
    """Whether a model's name stands for one of the embedded pipelines."""
    return model is None or model == FEW_STEP or Path(model).resolve() == PIPELINE_DIR.resolve()


def directory_of(model: str | None) -> Path:
    """Where the files that are a model's own lie, if it is on disk."""
    return PIPELINE_DIR if model is None else FEW_STEP_DIR if model == FEW_STEP else Path(model)


def load_pipeline(settings: Settings) -> Any:
    """Load the pipeline that the settings name into main memory, not compiled yet.

    It goes to the device that they name once it is compiled (`compile_pipeline`): then packing takes no room there.

    Raises:
        InputError: if there is no such model, one of its files is missing or damaged, or the device is absent.
    """
    embedded = is_embedded(settings.model)
    few_steps = settings.model == FEW_STEP
    source = str(PIPELINE_DIR) if settings.model is None or few_steps else settings.model
    redo = redo_hint(Path(source), embedded)
    if Path(source).is_dir():
        check_files(Path(source), redo)
    elif embedded:
        raise InputError(f"the embedded model is missing: {source} is not a directory. {redo}")
    elif Path(source).exists() or not _HUB_ID.fullmatch(source):
        raise InputError(
            f"there is no model {source!r}: give the directory of a diffusers pipeline (one with model_index.json), "
            "a Hub id such as Wan-AI/Wan2.1-T2V-1.3B-Diffusers, leave it out for the embedded model, "
            f"or say {FEW_STEP!r} for the embedded model of four steps"
        )
    if few_steps:
        _check_few_steps()
    dtype = floating_type(settings.dtype, device_of(settings))
    let_diffusers_read_saved_models()
    try:
        with warnings.catch_warnings():
            # Its successor `dtype` is unknown to the older releases of diffusers that tadp supports.
            warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
            index = DiffusionPipeline.load_config(source)
            own = few_step_parts(dtype, FEW_STEP_DIR) if few_steps else {}
            pipeline = DiffusionPipeline.from_pretrained(
                source, torch_dtype=_component_dtypes(str(index.get("_class_name")), dtype), **own
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"cannot load {source}: {error}\n{redo}") from error
    return pipeline


def floating_type(name: str, device: torch.device) -> torch.dtype:
    """The type that a name of `tadp.commands.settings.DTYPES` stands for on a device."""
    if name != AUTO:
        found: torch.dtype = getattr(torch, name)
        return found
    return torch.float32 if device.type == "cpu" and not processor.multiplies_bfloat16() else torch.bfloat16


def read_policies(names: Sequence[str], embedded: bool) -> dict[str, Policy]:
    """Policies by the keys of what was asked for, each once, in the order given; read before any model is loaded.

    The embedded model's signals have known ranges, which the complexity policy then uses.

    Raises:
        InputError: for an unknown policy or level; the message lists the known ones.
    """
    try:
        policies = {policy.key: policy for policy in map(parse, names)}
    except ValueError as error:
        raise InputError(str(error)) from error
    if not embedded:
        return policies
    return {
        key: replace(policy, ranges=FEATURE_RANGES) if isinstance(policy, Complexity) else policy
        for key, policy in policies.items()
    }


def check_files(directory: Path, redo: str) -> None:
    """Find missing and damaged weight files of a pipeline before loading, when the file at fault can still be named.

    Raises:
        InputError: naming the file, with `redo` as the way out.
    """
    index = _read_json(directory / "model_index.json", redo)
    for name, kind in index.items():
        if name.startswith("_") or not isinstance(kind, list) or kind[0] is None:
            continue
        component = directory / name
        if not component.is_dir():
            raise InputError(f"{component} is missing, though {directory / 'model_index.json'} lists it. {redo}")
        if (component / "config.json").exists():  # a model; schedulers and tokenizers have no weights
            _check_weights(component, redo)


def redo_hint(source: Path, embedded: bool) -> str:
    """How to get a model's files again."""
    if embedded:
        return "Train it again with `python -m tadp.demo.train`, or check it out again from the repository"
    if source.is_dir():
        return "Save the pipeline again with save_pretrained, or download it again"
    return "Check the id and the network; a model that needs a licence is unlocked with `hf auth login`"


def call_arguments(pipeline: Any, settings: Settings) -> dict[str, Any]:
    """The keyword arguments of a generation: what the settings give, over the embedded model's defaults if it is used.

    Raises:
        InputError: for a setting that this pipeline does not have, or an input that it needs and settings cannot give.
    """
    defaults = FEW_STEP_DEFAULTS if settings.model == FEW_STEP else EMBEDDED_DEFAULTS
    arguments = dict(defaults) if is_embedded(settings.model) else {}
    parameters = call_parameters(pipeline)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for setting, argument in _ARGUMENT_NAMES.items():
        value = getattr(settings, setting)
        if value is None:
            continue
        if argument not in parameters and not open_ended:
            flag = "--" + setting.replace("_", "-")
            raise InputError(f"{type(pipeline).__name__} takes no {argument!r}; leave {flag} out for this model")
        arguments[argument] = value
    for name, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if needed and name not in ("self", "prompt"):
            raise InputError(f"{type(pipeline).__name__} needs {name!r}, which cannot be given on the command line yet")
    return arguments


def read_tokens(pipeline: Any, arguments: Mapping[str, Any]) -> int | None:
    """How many tokens of a prompt the pipeline reads; None where it does not say."""
    if "max_sequence_length" in arguments:
        return int(arguments["max_sequence_length"])
    parameter = call_parameters(pipeline).get("max_sequence_length")
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else None


def count_tokens(pipeline: Any, prompt: str) -> int | None:
    """Tokens of a prompt before it is cut; None where the pipeline has no tokenizer."""
    tokenizer = getattr(pipeline, "tokenizer", None)
    return None if tokenizer is None else len(tokenizer(prompt, truncation=False, verbose=False).input_ids)


NONE = Path("none")
"""What names no calibration."""


def compile_pipeline(
    pipeline: Any,
    policy: Policy,
    precompile: bool = True,
    group_size: int | None = None,
    calibration: Path | None = None,
    device: torch.device | None = None,
    rotate: Collection[Role] | str = AUTO,
    codes: Path | None = None,
) -> Any:
    """`tadp.compile` with its refusals as messages: an unknown policy, a model without repeated blocks.

    A calibration that is not named is found, if there is one; "none" uses none. `rotate` is that of
    `tadp.compile`. The pipeline moves to `device` when its
    weights are packed.
    """
    named = AUTO if calibration is None else None if calibration == NONE else calibration
    try:
        found = tadp.compile(
            pipeline,
            policy=policy,
            calibration=named,
            precompile=precompile,
            group_size=group_size,
            rotate=rotate,
            codes=codes,
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{type(pipeline).__name__} cannot be compiled: {error}") from error
    return found if device is None or device.type == "cpu" else found.to(device)


def only_transformer(pipeline: Any) -> str:
    """The name of a pipeline's transformer, for commands that measure one.

    Raises:
        InputError: for pipelines with several, or with none that is called so.
    """
    name = "transformer"
    found = [other for other, part in pipeline.components.items() if other.startswith(name) and part is not None]
    if found != [name]:
        names = ", ".join(found) or "none"
        raise InputError(f"calibration is for pipelines with one component called {name!r}; this one has {names}")
    return name


def controllers(pipeline: Any) -> dict[str, Control]:
    """The controllers of a compiled pipeline by component name: two for models with two transformers."""
    components = sorted(pipeline.components.items())
    return {name: part.tadp for name, part in components if hasattr(part, "tadp")}


def _component_dtypes(pipeline_class: str, dtype: torch.dtype) -> torch.dtype | dict[str, torch.dtype]:
    """The type of each component: that of the transformer, but for what the family of the pipeline declares."""
    declared = component_dtypes(pipeline_class)
    return {**{name: getattr(torch, own) for name, own in declared.items()}, "default": dtype} if declared else dtype


def device_of(settings: Settings) -> torch.device:
    """The device that settings name.

    Raises:
        InputError: where it cannot be used here.
    """
    name = settings.device
    try:
        device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device: {name!r} cannot be used here ({reason}); cpu always can") from error
    return device


def _check_few_steps() -> None:
    """Find missing and damaged files of what the few-step model has of its own."""
    redo = "Train it again with `python -m tadp.demo.distill`, or check it out again from the repository"
    for component in ("transformer", "scheduler"):
        if not (FEW_STEP_DIR / component).is_dir():
            raise InputError(f"the few-step model is missing: there is no {FEW_STEP_DIR / component}. {redo}")
    _check_weights(FEW_STEP_DIR / "transformer", redo)


def _check_weights(component: Path, redo: str) -> None:
    files = [path for path in sorted(component.iterdir()) if path.suffix in _WEIGHT_SUFFIXES]
    for index in sorted(component.glob("*.index.json")):
        for name in sorted(set(_read_json(index, redo).get("weight_map", {}).values())):
            if not (component / name).exists():
                raise InputError(f"the weight file {component / name} is missing, though {index.name} lists it. {redo}")
    if not files:
        raise InputError(f"{component} holds no weight file (*.safetensors). {redo}")
    for path in files:
        if path.suffix == ".safetensors":
            for problem in _problems(path):
                raise InputError(f"the weight file {path} is damaged ({problem}). {redo}")


def _problems(path: Path) -> Iterator[str]:
    """What is wrong with a safetensors file, from its header and length; no tensor is read."""
    try:
        with safe_open(str(path), framework="pt") as handle:
            if not list(handle.keys()):
                yield "it holds no tensor"
    except (OSError, SafetensorError) as error:
        yield str(error)


def _read_json(path: Path, redo: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing, so {path.parent} is not a diffusers pipeline. {redo}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). {redo}") from error
    return dict(content)

"""`tadp compensate`: choose the codes of a model's weights with activations of sample prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from tadp.calibration.compensation import write_codes
from tadp.calibration.recording import Step, record
from tadp.calibration.rounding import IMPORTANCE
from tadp.commands.errors import InputError
from tadp.commands.model import call_arguments, device_of, is_embedded, load_pipeline, only_transformer
from tadp.commands.settings import Settings, collect_prompts
from tadp.compiler.layers import BlockLinear, block_linears
from tadp.compiler.rotating import measured_roles
from tadp.demo import CALIBRATION_PROMPTS
from tadp.files.automatic import find_calibration, weight_directories
from tadp.files.codes import CodesHeader, CodesWriter
from tadp.files.fingerprint import fingerprint
from tadp.kernels.rotation import rotate, size_for
from tadp.report.console import console

DIRECTORY = "codes"
"""Inside the directory that is written to."""

PROMPTS = 4
"""Of the prompts, evenly spaced, whose generations are recorded."""

STEPS = 8
"""Of each generation whose activations count, evenly spaced."""


def compensate(settings: Settings) -> int:
    """Choose codes for the model that the settings name, on their prompts.

    Returns:
        The exit code.

    Raises:
        InputError: for a model or prompts that cannot be used as given, and a directory of another run.
    """
    if settings.prompts_file is None and is_embedded(settings.model):
        settings = replace(settings, prompts_file=CALIBRATION_PROMPTS)
    if settings.prompts_file is None:
        raise InputError("choosing codes needs sample prompts of this model, simple and complex ones: --prompts FILE")
    prompts = evenly(collect_prompts(settings))
    pipeline, device = load_pipeline(settings), device_of(settings)
    if device.type != "cpu":
        pipeline.to(device)
    arguments = call_arguments(pipeline, settings)
    model = getattr(pipeline, only_transformer(pipeline))
    pipeline.set_progress_bar_config(disable=True)
    linears = [linear for linear in block_linears(model) if not linear.reason]
    directory = settings.out / DIRECTORY
    identity = fingerprint(model)
    rotated = measured_roles(find_calibration(identity, weight_directories(model)))
    sizes = {linear.layer: size_for(linear.module.in_features) for linear in linears if linear.role in rotated}
    header = CodesHeader(
        fingerprint=identity,
        group_size=settings.group_size,
        importance=IMPORTANCE,
        layers={block: tuple(layers) for block, layers in by_block(linears).items()},
        rotations={layer: size for layer, size in sizes.items() if size},
        data={"prompts": list(prompts), "seed": settings.seed, "call": arguments},
    )
    tell = console().print
    try:
        writer = CodesWriter(directory, header)
        if writer.missing:
            written = len(header.layers) - len(writer.missing)
            if written:
                tell(f"{written} of {len(header.layers)} blocks are there already", highlight=False)
            steps = record_some(pipeline, model, prompts, settings.seed, arguments)
            idle = write_codes(model, by_block(linears), steps, header, writer, rotate)
            if idle:
                tell(f"no step ran {', '.join(idle)}: they have no codes, and are packed without", highlight=False)
    except ValueError as error:
        raise InputError(str(error)) from error
    tell(
        f"{directory} holds the codes of {len(linears)} layers. Generate with them: "
        f"tadp generate ... --codes {directory}, or tadp.compile(..., codes={str(directory)!r})",
        highlight=False,
    )
    return 0


def by_block(linears: Sequence[BlockLinear]) -> dict[str, dict[str, torch.nn.Linear]]:
    """Layers by path, by block, in the order in which blocks run."""
    found: dict[str, dict[str, torch.nn.Linear]] = {}
    for linear in linears:
        found.setdefault(linear.block, {})[linear.layer] = linear.module
    return found


def record_some(
    pipeline: Any, model: torch.nn.Module, prompts: Sequence[str], seed: int, arguments: Mapping[str, Any]
) -> list[Step]:
    """`STEPS` steps of each prompt's generation, evenly spaced; prompts take turns in where they begin."""
    found: list[Step] = []
    for index, prompt in enumerate(tqdm(prompts, desc="recording steps", unit="clip")):
        trail = record(pipeline, model, prompt, seed + index, arguments)
        stride = -(-len(trail) // STEPS)
        found += trail[index % stride :: stride]
    return found


def evenly(prompts: Sequence[str], count: int = PROMPTS) -> tuple[str, ...]:
    """So many of the prompts, the first among them."""
    count = min(count, len(prompts))
    return tuple(prompts[index * len(prompts) // count] for index in range(count))

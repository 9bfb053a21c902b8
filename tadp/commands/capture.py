"""A model compiled and run for one step, and its layers: for commands that look at compiled code and make no clips."""

from typing import Any, NamedTuple

import torch

from tadp.commands.errors import InputError
from tadp.commands.model import (
    call_arguments,
    compile_pipeline,
    controllers,
    device_of,
    is_embedded,
    load_pipeline,
    read_policies,
)
from tadp.commands.settings import Settings
from tadp.policy import Policy

Layer = tuple[int, int, int, str, bool]
"""Tokens, rows, columns, nonlinearity, and whether there is a bias."""


class Captured(NamedTuple):
    """A compiled pipeline that ran for one step, and the policy with the name that it was asked for by."""

    pipeline: Any
    policy: Policy
    name: str


def capture(settings: Settings, precompile: bool) -> Captured:
    """Load a pipeline, compile it, and run it for one step at the size asked for; latents are left undecoded.

    Args:
        settings: model, policy and size.
        precompile: compile all variants that the policy may choose, not only those that this step runs.

    Raises:
        InputError: for a model, policy or size that cannot be used as given.
    """
    ((name, policy),) = read_policies([settings.policy], is_embedded(settings.model)).items()
    pipeline = load_pipeline(settings)
    request = {**call_arguments(pipeline, settings), "num_inference_steps": 1, "output_type": "latent"}
    compiled = compile_pipeline(
        pipeline,
        policy,
        precompile=precompile,
        group_size=settings.group_size,
        calibration=settings.calibration,
        codes=settings.codes,
        device=device_of(settings),
    )
    compiled.set_progress_bar_config(disable=True)
    try:
        compiled(prompt="a red circle", generator=torch.Generator("cpu").manual_seed(0), **request)
    except ValueError as error:
        raise InputError(f"{type(compiled).__name__} cannot run at this size: {error}") from error
    return Captured(compiled, policy, name)


def distinct_layers(pipeline: Any) -> list[Layer]:
    """What is different among the linear layers of a compiled pipeline that were captured within blocks."""
    return sorted(
        {
            (layer.tokens, layer.shape[0], layer.shape[1], layer.nonlinearity, layer.biased)
            for controller in controllers(pipeline).values()
            for layer in controller.layers()
            if layer.structure and layer.tokens and layer.shape
        }
    )

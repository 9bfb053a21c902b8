"""A model compiled and run for one step: what commands need that look at compiled code and make no clips."""

from typing import Any

import torch

from tadp.commands.errors import InputError
from tadp.commands.generate import read_policies
from tadp.commands.model import call_arguments, compile_pipeline, is_embedded, load_pipeline
from tadp.commands.settings import Settings
from tadp.policy import Policy


def capture(settings: Settings, precompile: bool) -> tuple[Any, Policy]:
    """Load a pipeline, compile it, and run it for one step at the size asked for; latents are left undecoded.

    Args:
        settings: model, policy and size.
        precompile: compile all variants that the policy may choose, not only those that this step runs.

    Returns:
        The compiled pipeline and the policy.

    Raises:
        InputError: for a model, policy or size that cannot be used as given.
    """
    (policy,) = read_policies([settings.policy], is_embedded(settings.model)).values()
    pipeline = load_pipeline(settings)
    request = {**call_arguments(pipeline, settings), "num_inference_steps": 1, "output_type": "latent"}
    compiled = compile_pipeline(pipeline, policy, precompile=precompile, group_size=settings.group_size)
    compiled.set_progress_bar_config(disable=True)
    try:
        compiled(prompt="a red circle", generator=torch.Generator("cpu").manual_seed(0), **request)
    except ValueError as error:
        raise InputError(f"{type(compiled).__name__} cannot run at this size: {error}") from error
    return compiled, policy

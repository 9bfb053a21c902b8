"""The second embedded model: four steps without guidance. Text encoder, tokenizer and autoencoder are the first's."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline, WanTransformer3DModel

from tadp.demo import FEW_STEP_DIR, PIPELINE_DIR
from tadp.sampling import RCMScheduler

STOCHASTIC = False
"""Whether its sampler draws fresh noise in every step: its lessons were the teacher's ways along the flow."""


def load_few_steps(dtype: torch.dtype = torch.bfloat16, directory: Path = FEW_STEP_DIR) -> WanPipeline:
    """The whole pipeline, to be called with `guidance_scale=1.0` and one to four steps.

    Args:
        dtype: of all weights.
        directory: with the transformer and the scheduler.

    Raises:
        OSError: where one of them is missing.
    """
    with _quiet():
        return WanPipeline.from_pretrained(PIPELINE_DIR, torch_dtype=dtype, **few_step_parts(dtype, directory))


def few_step_parts(dtype: torch.dtype, directory: Path = FEW_STEP_DIR) -> dict[str, Any]:
    """The components that differ from the first embedded model's."""
    with _quiet():
        transformer = WanTransformer3DModel.from_pretrained(directory / "transformer", torch_dtype=dtype)
    return {"transformer": transformer, "scheduler": RCMScheduler.from_pretrained(directory / "scheduler")}


def save_few_steps(transformer: WanTransformer3DModel, directory: Path) -> None:
    """Write what `load_few_steps` reads beside its final place, then swap it in: a reader never sees half of it."""
    partial, previous = (directory.with_name(directory.name + ending) for ending in (".partial", ".previous"))
    transformer.register_to_config(_name_or_path="")  # where the weights that it began with lay on this machine
    transformer.save_pretrained(partial / "transformer")
    RCMScheduler(stochastic=STOCHASTIC).save_pretrained(partial / "scheduler")
    if directory.exists():
        os.replace(directory, previous)
    os.replace(partial, directory)
    if previous.exists():
        shutil.rmtree(previous)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning about `torch_dtype`, whose successor older releases of diffusers do not know."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
        yield

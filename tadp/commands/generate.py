"""`tadp generate`: a clip for each prompt and policy, all from the same seed, with a report of what was done."""

import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from tadp.commands.errors import InputError
from tadp.commands.figures import measure
from tadp.commands.model import (
    FEW_STEP,
    call_arguments,
    compile_pipeline,
    controllers,
    count_tokens,
    device_of,
    directory_of,
    floating_type,
    is_embedded,
    load_pipeline,
    read_policies,
    read_tokens,
)
from tadp.commands.settings import Settings, collect_prompts
from tadp.complexity import text
from tadp.complexity.content import text_score
from tadp.pipelines import first_clip, takes
from tadp.policy import Complexity, Policy
from tadp.quality.fidelity import image_metrics
from tadp.report.clips import need_encoder, write_clip
from tadp.report.console import console, need_rich
from tadp.report.document import describe_run, new_document, to_json, write_document
from tadp.report.files import policy_slug, unique_slugs
from tadp.report.plot import draw_plan, need_matplotlib
from tadp.report.run import Observed, Run
from tadp.report.table import Row, print_table, shorten
from tadp.runtime.compiled import Control

BASELINE = "static:16"


class StepTimer:
    """Times sampling steps from outside, as a pipeline's callback: on GPUs a call returns before its work is done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ends: list[float] = []

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._ends.append(time.perf_counter())
        return {}

    @property
    def seconds(self) -> tuple[float, ...]:
        """Seconds of each step but the first, whose start is not called back."""
        return tuple(end - start for start, end in pairwise(self._ends))


def generate(settings: Settings) -> int:
    """Generate, write and report every prompt; what is finished stays when the run is interrupted.

    Returns:
        The exit code.

    Raises:
        InputError: for a request that cannot be met as given.
    """
    prompts = collect_prompts(settings)
    policies = read_policies((settings.policy, *settings.compare), is_embedded(settings.model))
    names = list(policies)
    _make_directory(settings.out)
    pipeline = load_pipeline(settings)
    _check_extras(pipeline, compares=len(policies) > 1 and BASELINE in policies)
    arguments = call_arguments(pipeline, settings)
    tokens = warn_of_long_prompts(pipeline, prompts, arguments)
    compiled = compile_pipeline(
        pipeline,
        policies[names[0]],
        group_size=settings.group_size,
        calibration=settings.calibration,
        codes=settings.codes,
        device=device_of(settings),
    )
    document = new_document(settings, _describe_model(pipeline, settings, arguments), names)
    rows = list[Row]()
    try:
        for number, (prompt, stem) in enumerate(zip(prompts, unique_slugs(prompts), strict=True)):
            label = f"[{number + 1}/{len(prompts)}] {shorten(prompt, 30)}"
            runs = [
                run_policy(compiled, name, policy, prompt, arguments, settings.seed, label)
                for name, policy in policies.items()
            ]
            entry, new_rows = _write_prompt(settings, prompt, stem, runs, policies)
            document["prompts"].append({**entry, "tokens": tokens[number]})
            rows += new_rows
            document["complete"] = len(document["prompts"]) == len(prompts)
            write_document(settings.out / "report.json", document)
    finally:
        if rows:
            print_table(rows)
            console().print(
                f"{len(document['prompts'])} of {len(prompts)} prompts written to {settings.out}", highlight=False
            )
    return 0


def warn_of_long_prompts(pipeline: Any, prompts: Sequence[str], arguments: Mapping[str, Any]) -> list[int | None]:
    """Count each prompt's tokens; one warning for each prompt of which the model will not read the end."""
    counts = [count_tokens(pipeline, prompt) for prompt in prompts]
    limit = read_tokens(pipeline, arguments)
    for number, count in enumerate(counts, start=1):
        if limit is not None and count is not None and count > limit:
            warnings.warn(
                f"prompt {number} ({shorten(prompts[number - 1], 30)}) has {count} tokens; the model reads the "
                f"first {limit}. Shorten it, or raise --max-sequence-length if the model was trained for more",
                stacklevel=2,
            )
    return counts


def run_policy(
    pipeline: Any, name: str, policy: Policy, prompt: str, arguments: Mapping[str, Any], seed: int, label: str = ""
) -> Run:
    """Generate one clip under one policy and gather what the controllers recorded meanwhile."""
    watched = controllers(pipeline)
    for controller in watched.values():
        controller.use(policy)
    earlier = {name: _last_generation(controller) for name, controller in watched.items()}
    timer = StepTimer(pipeline.device)
    observing = {"callback_on_step_end": timer} if takes(pipeline, "callback_on_step_end") else {}
    pipeline.set_progress_bar_config(desc=f"{label} {name}", leave=False, file=sys.stderr)
    started = time.perf_counter()
    try:
        output = pipeline(
            prompt=prompt,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
            **arguments,
            **observing,
        )
    except ValueError as error:
        raise InputError(f"{type(pipeline).__name__} cannot generate this: {error}") from error
    seconds = time.perf_counter() - started
    observed = {
        component: Observed(
            history=tuple(record for record in controller.history if record.generation > earlier[component]),
            score=controller.score,
            plan=controller.plan,
            weight_bytes=controller.weight_bytes(),
            kept_bytes=controller.kept_bytes,
        )
        for component, controller in watched.items()
    }
    return Run(name, first_clip(output), seconds, observed, timer.seconds)


def _write_prompt(
    settings: Settings, prompt: str, name: str, runs: Sequence[Run], policies: Mapping[str, Policy]
) -> tuple[dict[str, Any], list[Row]]:
    """Write the files of a prompt; its entry in the report and its rows in the table."""
    score = text_score([prompt], text.score)
    baseline = next((run.clip for run in runs if run.policy == BASELINE), None)
    entries, rows = [], []
    for position, run in enumerate(runs):
        # The chosen policy's files carry the prompt's name alone; compared ones add their policy.
        stem = name if position == 0 else f"{name}.{policy_slug(run.policy)}"
        files = write_clip(settings.out, stem, run.clip, settings.fps)
        policy = policies[run.policy]
        thresholds = (policy.low, policy.high) if isinstance(policy, Complexity) else ()
        draw_plan(settings.out / f"{stem}.plan.png", prompt, run, score, thresholds)
        files["plan"] = f"{stem}.plan.png"
        quality = measure(prompt, run.clip, None if run.policy == BASELINE else baseline)
        entries.append(describe_run(run, quality, files))
        rows.append(
            Row(
                prompt=prompt,
                policy=run.policy,
                score=run.score.total if run.score else None,
                levels=run.levels(),
                seconds_per_step=run.seconds_per_step(),
                weight_bytes=run.weight_bytes,
                kept_bytes=run.kept_bytes,
                psnr=quality["psnr"],
                ssim=quality["ssim"],
            )
        )
    return {"prompt": prompt, "seed": settings.seed, "text": to_json(score), "runs": entries}, rows


def _check_extras(pipeline: Any, compares: bool) -> None:
    """Find what is missing for the files and figures of a run before anything is computed for them.

    Raises:
        MissingExtraError: naming the extra.
    """
    need_rich()
    need_matplotlib()
    if takes(pipeline, "num_frames"):
        need_encoder()
    if compares:
        image_metrics()


def _make_directory(path: Path) -> None:
    """Make the output directory before anything is computed for it.

    Raises:
        InputError: if it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {path} cannot be made a directory ({error.strerror or error})") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"--out: {path} cannot be written to; name another directory")


def _describe_model(pipeline: Any, settings: Settings, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": "embedded" if is_embedded(settings.model) and settings.model != FEW_STEP else settings.model,
        "path": directory_of(settings.model),
        "pipeline": type(pipeline).__name__,
        "dtype": str(floating_type(settings.dtype, pipeline.device)).removeprefix("torch."),
        "device": pipeline.device,
        "arguments": dict(arguments),
    }


def _last_generation(controller: Control) -> int:
    return max((record.generation for record in controller.history), default=-1)

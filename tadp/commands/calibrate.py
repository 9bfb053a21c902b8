"""`tadp calibrate`: measure errors and costs of lower levels on a model, and write them down."""

from dataclasses import replace
from functools import partial
from typing import Any

from tadp.calibration.run import calibrate
from tadp.calibration.sensitivity import gradient_agreement
from tadp.calibration.subject import prepare
from tadp.commands.errors import InputError
from tadp.commands.model import (
    NONE,
    call_arguments,
    compile_pipeline,
    device_of,
    is_embedded,
    load_pipeline,
    only_transformer,
)
from tadp.commands.settings import Settings, collect_prompts
from tadp.compiler.layers import block_linears
from tadp.demo import CALIBRATION_PROMPTS
from tadp.files.automatic import NAME, cached
from tadp.files.calibration import save
from tadp.planning.calibration import Calibration
from tadp.planning.costs import Costs
from tadp.planning.reuse_costs import ReuseCosts
from tadp.policy import Policy
from tadp.precision import Role
from tadp.report.console import console, table


def write_calibration(settings: Settings, *, roles: bool = False) -> int:
    """Calibrate the model that the settings name on their prompts.

    Args:
        settings: of the command.
        roles: whether to measure the sensitivity of the roles of every block too.

    Returns:
        The exit code.

    Raises:
        InputError: for a model or prompts that cannot be used as given.
    """
    if settings.prompts_file is None and is_embedded(settings.model):
        settings = replace(settings, prompts_file=CALIBRATION_PROMPTS)
    if settings.prompts_file is None:
        raise InputError("calibration needs sample prompts of this model, simple and complex ones: --prompts FILE")
    prompts = collect_prompts(settings)
    pipeline, device = load_pipeline(settings), device_of(settings)
    if device.type != "cpu":
        pipeline.to(device)  # steps are recorded before anything is compiled
    arguments = call_arguments(pipeline, settings)
    component = only_transformer(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    linears = block_linears(getattr(pipeline, component))
    layers = {linear.layer: linear.module for linear in linears if not linear.reason}
    role_of = {linear.layer: linear.role for linear in linears if linear.role is not None}
    directory = settings.out / "calibration.work"
    try:
        subject = prepare(
            pipeline, prompts, arguments, layers, role_of, _compile, component=component, seed=settings.seed
        )
        tell = partial(console().print, highlight=False)
        found = calibrate(subject, prompts, directory, tell, roles=roles)
    except ValueError as error:
        raise InputError(str(error)) from error
    path = settings.out / "calibration.json"
    save(found, path)
    (identity,) = found.key["models"].values()
    save(found, cached(identity))
    _print(found)
    console().print(
        f"written to {path}, and to {cached(identity)}, where it is found from now on. To ship it, put both files "
        f"beside the weights as {NAME}.json and {NAME}.safetensors. {directory} holds what was measured and can be "
        "removed",
        highlight=False,
    )
    return 0


def _compile(pipeline: Any, policy: Policy, rotated: tuple[Role, ...]) -> Any:
    """Compile without a calibration: an earlier one is what this one replaces."""
    return compile_pipeline(pipeline, policy, calibration=NONE, rotate=rotated)


def _print(found: Calibration) -> None:
    features = table("what predicts the error", "feature", "correlation", "weight in the score")
    for name, correlation in sorted(found.correlations.items(), key=lambda item: -abs(item[1])):
        span = found.ranges.get(name)
        features.add_row(name, f"{correlation:+.2f}", f"{abs(span.weight):.2f}" if span else "0")
    console().print(features)
    console().print(
        f"score against error, contents left out of the fit: {found.left_out:.2f} ({found.samples} contents)"
    )
    columns = ("policy", "0", "0.5", "1", "error of the cost model, dB", "s", "MB")
    plans = table("static plans: expected PSNR by score", *columns)
    for row in found.table:
        expected = (f"{row.error.psnr(score):.1f}" for score in (0, 0.5, 1))
        bias = f"{found.bias[row.policy]:+.1f}" if row.policy in found.bias else ""
        plans.add_row(row.policy, *expected, bias, f"{row.seconds:.2f}", f"{row.bytes / 1e6:.1f}")
    console().print(plans)
    rotated = ", ".join(map(str, found.rotated or ())) or "none"
    console().print(f"roles that gain by rotating columns before they are rounded: {rotated}")
    if found.costs.reuse is not None:
        _print_reuse(found.costs, found.costs.reuse)
    if found.sensitivity:
        agreement = gradient_agreement(found.sensitivity)
        console().print(f"gradient estimate against measured sensitivity, rank correlation over roles: {agreement}")


def _print_reuse(costs: Costs, reuse: ReuseCosts) -> None:
    columns = ("bound", "runs left out, simple content", "complex content", "error added, in units of reuse at 16 bits")
    rows = table("reuse in all stages after the probe", *columns)
    for bound in reuse.bounds:
        simple, complex_ = (
            sum(steps * span[end] for steps, span in zip(costs.steps, reuse.skipped[bound], strict=True))
            / sum(costs.steps)
            for end in (0, 1)
        )
        rows.add_row(f"{bound:g}", f"{simple:.0%}", f"{complex_:.0%}", f"{reuse.factors[bound]:.2f}")
    console().print(rows)
    console().print(f"at 16 bits, reuse in all stages errs {reuse.factor_at_16:.2f} times what single stages add up to")

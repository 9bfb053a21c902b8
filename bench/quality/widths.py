"""What do 8, 6 and 4 bits cost in whole clips, by how weights are rounded?

Clips of the embedded model in float32 against those at 16 bits from the same noise, on prompts of the proof, which
nothing was fitted to. Every way of rounding is measured on the same prompts; an interrupted run goes on.
"""

import statistics
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import tadp
from bench.models.model import demo_calibration, demo_pipeline
from bench.quality.proof.clips import ARGUMENTS, contents
from bench.record import parser, record
from tadp.calibration.clips import ClipMeasurer
from tadp.calibration.compensation import write_codes
from tadp.calibration.rounding import IMPORTANCE
from tadp.calibration.samples import Outcome, SampleFile
from tadp.commands.compensate import by_block, evenly, record_some
from tadp.compiler.layers import block_linears
from tadp.demo import CALIBRATION_PROMPTS
from tadp.files.codes import CodesHeader, CodesWriter
from tadp.files.fingerprint import fingerprint
from tadp.kernels.rotation import rotate, size_for
from tadp.policy import parse
from tadp.precision import Role

POLICIES = ("static:8", "static:6", "static:4")
LINEAR = [role for role in Role if role not in (Role.ATTENTION, Role.EMBED, Role.HEAD)]
BALANCE = 0.5

WAYS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"rotate": None},
    "rotated": {"rotate": ("ffn.down",)},
    "rotated in all roles": {"rotate": LINEAR},
    "groups of 64": {"rotate": None, "group_size": 64},
    "balanced": {"rotate": None, "balance": BALANCE},
    "compensated": {"codes": ()},
    "rotated, compensated": {"codes": (Role.FFN_DOWN,)},
    "rotated, compensated, groups of 128": {"codes": (Role.FFN_DOWN,), "group_size": 128},
}
"""Options of `tadp.compile`; codes by the roles that are rotated before they are chosen."""


def main() -> None:
    """PSNR of every way of rounding at every width."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=48)
    options.add_argument("--ways", nargs="+", choices=WAYS, default=tuple(WAYS))
    options.add_argument("--work", type=Path, default=Path("out/widths"), help="where clips' outcomes are kept")
    chosen = options.parse_args()
    pairs = contents(chosen.prompts, 1)
    rows = [
        row_of(way, policy, [outcomes[policy] for outcomes in found], weight_bytes)
        for way in chosen.ways
        for found, weight_bytes in [measured(way, pairs, chosen.work)]
        for policy in POLICIES
    ]
    record("widths: clips by how weights are rounded", rows, chosen.json, prompts=len(pairs))


def measured(
    way: str, pairs: list[tuple[str, int]], work: Path
) -> tuple[list[Mapping[str, Outcome]], Mapping[str, int]]:
    """By prompt the outcome of each policy, and the bytes of weights that each policy reads."""
    pipeline = demo_pipeline(torch.float32)
    calibration = demo_calibration(pipeline.transformer)
    options = dict(WAYS[way])
    if "codes" in options:
        options["codes"] = chosen_codes(pipeline, work / _file_name(way), options["codes"], options.get("group_size"))
    compiled = tadp.compile(pipeline, policy="static:16", calibration=calibration, **options)
    file = SampleFile(work / f"{_file_name(way)}.jsonl", {"way": way})
    measurer = ClipMeasurer(compiled, ARGUMENTS, file, work / "references")
    for prompt, seed, policy in tqdm(list(measurer.missing(pairs, map(parse, POLICIES))), desc=way, unit="clip"):
        measurer.measure(prompt, seed, policy)
    return [file.sample(*pair).outcomes for pair in pairs], dict(bytes_read(compiled))


def chosen_codes(pipeline: Any, directory: Path, rotated: Collection[Role], group_size: int | None) -> Path:
    """Codes that are chosen as `tadp compensate` does, on prompts of calibration."""
    model = pipeline.transformer
    linears = [linear for linear in block_linears(model) if not linear.reason]
    sizes = {linear.layer: size_for(linear.module.in_features) for linear in linears if linear.role in rotated}
    layers = by_block(linears)
    header = CodesHeader(
        fingerprint(model), group_size, IMPORTANCE, {block: tuple(own) for block, own in layers.items()}, sizes
    )
    writer = CodesWriter(directory, header)
    if writer.missing:
        prompts = evenly(CALIBRATION_PROMPTS.read_text().splitlines())
        write_codes(model, layers, record_some(pipeline, model, prompts, 0, ARGUMENTS), header, writer, rotate)
    return directory


def _file_name(way: str) -> str:
    return way.replace(",", "").replace(" ", "-")


def bytes_read(pipeline: Any) -> Iterator[tuple[str, int]]:
    """By policy, the bytes of planes and scales of all blocks that it reads."""
    weights = [weight for weight in pipeline.transformer.parameters() if hasattr(weight, "nbytes_at")]
    for policy in POLICIES:
        yield policy, sum(weight.nbytes_at(parse(policy).recipes()[0].default.weight) for weight in weights)


def row_of(way: str, policy: str, outcomes: list[Outcome], weight_bytes: Mapping[str, int]) -> dict[str, object]:
    """A line of the table."""
    psnr = [outcome.psnr for outcome in outcomes]
    return {
        "rounding": way,
        "policy": policy,
        "PSNR, dB": statistics.fmean(psnr),
        "5th percentile": statistics.quantiles(psnr, n=20)[0] if len(psnr) > 1 else psnr[0],
        "lowest": min(psnr),
        "s a clip": statistics.median(outcome.seconds for outcome in outcomes),
        "MB read": weight_bytes[policy] / 1e6,
    }


if __name__ == "__main__":
    main()

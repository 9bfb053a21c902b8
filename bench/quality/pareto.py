"""Do budgets pay? Clips of the embedded model on prompts that calibration did not see, by every policy.

Needs the file that `tadp calibrate --dtype float32` writes. Clips are compared with those at 16 bits from the same
noise, and kept in files: the next run goes on with them. Seconds come from the recipes that the blocks of each clip ran
at and the time of each recipe, measured in turn by the calibration; --check times whole clips beside it.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from diffusers import WanPipeline
from tqdm import tqdm

import tadp
from bench.models.model import GENERATION, demo_pipeline
from bench.quality.pareto_check import check_seconds
from bench.quality.pareto_report import Proof, write_report
from bench.record import parser
from tadp.calibration.clips import ClipMeasurer
from tadp.calibration.samples import Sample, SampleFile
from tadp.demo.captions.alignment import alignment
from tadp.demo.scenes import sample_scene
from tadp.files.calibration import load
from tadp.files.fingerprint import calibration_key, fingerprint
from tadp.policy import Policy, Static, parse
from tadp.policy.complexity import PROBE_STEPS
from tadp.precision import L8

FIRST_SCENE = 8 * 10**9
"""Scenes of calibration begin at 7e9."""

PROBE = Static(L8, keep_ends=True, probe_steps=PROBE_STEPS)
STATIC = ("static:16", "static:8", "static:8+attention", "static:6", "static:4", "static:w8a16", "static:16+attention")
ADAPTIVE = ("complexity", "budget:quality=44", "budget:quality=46,ends=free", "budget:latency=5.7,ends=free")
ARGUMENTS = {name: value for name, value in GENERATION.items() if name != "output_type"}


def main() -> None:
    """Generate what is missing, then write tables and the picture."""
    chosen = _options().parse_args()
    calibration = None if chosen.static else load(chosen.calibration)
    pairs = [
        (sample_scene(FIRST_SCENE + index, 1 + index % 5).caption, index + 100 * seed)
        for seed in range(chosen.seeds)
        for index in range(chosen.prompts)
    ]
    pipeline = demo_pipeline(torch.float32)
    key = calibration_key({"transformer": fingerprint(pipeline.transformer)}, ARGUMENTS)
    part, parts = map(int, chosen.part.split("/"))
    compiled = tadp.compile(pipeline, policy="static:16", calibration=calibration)
    kinds = {"static": (key, [parse(STATIC[0]), PROBE, *map(parse, STATIC[1:])])}
    if calibration is not None:
        digest = hashlib.sha256(chosen.calibration.read_bytes()).hexdigest()[:16]
        kinds["adaptive"] = ({**key, "calibration": digest}, [parse(name) for name in ADAPTIVE])
    if not chosen.report:
        work = [
            (SampleFile(chosen.directory / f"{kind}-{part}of{parts}.jsonl", identity), policies)
            for kind, (identity, policies) in kinds.items()
        ]
        measure(compiled, work, pairs[part - 1 :: parts], chosen.directory)
    if calibration is None or (parts > 1 and not chosen.report):
        return
    files = {
        kind: [SampleFile(path, identity) for path in sorted(chosen.directory.glob(f"{kind}-*.jsonl"))]
        for kind, (identity, _) in kinds.items()
    }
    policies = [policy for _, chosen_policies in kinds.values() for policy in chosen_policies]
    samples = whole_samples(files, [policy.key for policy in policies])
    check = check_seconds(compiled, ARGUMENTS, calibration, policies, chosen.check) if chosen.check else None
    proof = Proof(tuple(samples), calibration, PROBE.key, STATIC, ADAPTIVE)
    write_report(proof, chosen.out, chosen.json, planned=len(pairs), check=check)


def whole_samples(files: dict[str, list[SampleFile]], policies: list[str]) -> list[Sample]:
    """Samples for which every policy was measured, put together from all files."""
    found: dict[tuple[str, int], Sample] = {}
    for file in (file for kind in files.values() for file in kind):
        for sample in file.samples:
            known = found.get((sample.prompt, sample.seed), Sample(sample.prompt, sample.seed))
            features = {**sample.features, **known.features}
            outcomes = {**known.outcomes, **sample.outcomes}
            found[sample.prompt, sample.seed] = Sample(sample.prompt, sample.seed, features, outcomes)
    return [sample for sample in found.values() if all(policy in sample.outcomes for policy in policies)]


def measure(
    pipeline: WanPipeline, work: list[tuple[SampleFile, list[Policy]]], pairs: list[tuple[str, int]], directory: Path
) -> None:
    """Every policy on every prompt and seed, pair by pair: what is there when a run is cut short is whole."""
    measurers = [
        (ClipMeasurer(pipeline, ARGUMENTS, file, directory / "references", align=_align), policies)
        for file, policies in work
    ]
    missing = [
        (measurer, *clip)
        for pair in pairs
        for measurer, policies in measurers
        for clip in measurer.missing([pair], policies)
    ]
    for measurer, prompt, seed, policy in tqdm(missing, desc="generating", unit="clip", disable=not missing):
        measurer.measure(prompt, seed, policy)


def _align(clip: torch.Tensor, caption: str) -> float:
    """The mean of what is found of a caption: colours, shapes, motions and their number."""
    found = alignment(clip, caption)
    return (found.color + found.shape + found.motion + found.count) / 4


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument("--calibration", type=Path, default=Path("out/calibration.json"))
    options.add_argument("--prompts", type=int, default=48, help="of one to five objects in turn")
    options.add_argument("--seeds", type=int, default=3, help="of every prompt")
    options.add_argument("--directory", type=Path, default=Path("out/pareto"), help="where measurements are kept")
    options.add_argument("--part", default="1/1", help="of the work, such as 2/2, for several processes at a time")
    options.add_argument("--static", action="store_true", help="only the static settings, which need no calibration")
    options.add_argument("--report", action="store_true", help="generate nothing, write tables of what is there")
    options.add_argument("--check", type=int, default=0, metavar="PROMPTS", help="also time whole clips of so many")
    options.add_argument("--out", type=Path, default=Path("docs/results"), help="where pareto.md and .png go")
    return options


if __name__ == "__main__":
    main()

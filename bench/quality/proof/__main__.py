"""Does adapting pay? Clips of the embedded model on prompts that nothing has seen, by every setting and every rival.

Clips are compared with those at 16 bits from the same noise. Each is timed on the clock, all settings of a prompt in
turn, and kept in a file at once: an interrupted run goes on with it. Files of several machines may be put together, as
times are compared within a file only.
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

import tadp
from bench.models.model import demo_calibration, demo_pipeline
from bench.quality.proof.caches import magnitudes
from bench.quality.proof.clips import ARGUMENTS, ClipFile, Subject, contents, measure
from bench.quality.proof.report import write_report
from bench.quality.proof.settings import ALL
from bench.record import machine, parser, versions
from tadp.demo.scenes import sample_scene
from tadp.files.fingerprint import calibration_key, fingerprint

CLIPS = Path("bench/results/proof")
RATIO_PROMPTS = tuple(sample_scene(12 * 10**9 + index, 1 + 2 * index).caption for index in range(3))
"""What MagCache takes its ratios from: prompts of one, three and five objects that are not compared on."""


def main() -> None:
    """Generate what is missing, then write tables and the picture."""
    chosen = _options().parse_args()
    pairs = contents(chosen.prompts, chosen.seeds)
    if not chosen.report:
        generate(pairs[chosen.skip :], chosen.clips, getattr(torch, chosen.dtype))
    files = sorted(chosen.clips.parent.glob("*.jsonl")) if chosen.report else [chosen.clips]
    write_report(files, chosen.out, chosen.json, planned=len(pairs))


def generate(pairs: list[tuple[str, int]], path: Path, dtype: torch.dtype) -> None:
    """Make the clips that a file lacks."""
    pipeline = demo_pipeline(dtype)
    models = {"transformer": fingerprint(pipeline.transformer)}
    key = {**calibration_key(models, ARGUMENTS), "packages": versions(), "machine": machine(), "dtype": str(dtype)}
    file = ClipFile(path, key)
    missing = sum(len(file.missing(pair, ALL)) for pair in pairs)
    if not missing:
        return
    calibration = demo_calibration(pipeline.transformer)
    compiled = tadp.compile(pipeline, policy="static:16", calibration=None)
    subject = Subject(compiled, calibration, magnitudes(compiled, RATIO_PROMPTS, ARGUMENTS))
    for setting in tqdm(ALL, desc="compiling", unit="setting"):
        if setting.cache is None:
            subject.use(setting)
            compiled(pairs[0][0], **{**ARGUMENTS, "num_inference_steps": 4, "output_type": "latent"})
    with tqdm(total=missing, desc="generating", unit="clip") as progress:
        for pair in pairs:
            for _ in measure(subject, file, pair, ALL):
                progress.update()


def _options() -> argparse.ArgumentParser:
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=48, help="of one to five objects in turn")
    options.add_argument("--seeds", type=int, default=3, help="of every prompt")
    options.add_argument(
        "--skip", type=int, default=0, help="contents to leave to another process with a file of its own"
    )
    options.add_argument("--clips", type=Path, default=CLIPS / "clips.jsonl", help="where clips are kept")
    options.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    options.add_argument("--report", action="store_true", help="generate nothing, write tables of all files beside it")
    options.add_argument("--out", type=Path, default=Path("docs/results"), help="where proof.md and .png go")
    return options


if __name__ == "__main__":
    main()

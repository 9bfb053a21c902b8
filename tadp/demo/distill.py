"""Distil the embedded model to four steps without guidance: `python -m tadp.demo.distill`. Resumes where it stopped."""

import argparse
import dataclasses
from pathlib import Path

import torch
from diffusers import WanPipeline, WanTransformer3DModel

from tadp.demo import FEW_STEP_DIR, PIPELINE_DIR
from tadp.demo.few_steps import save_few_steps
from tadp.demo.plot import plot_training
from tadp.demo.train_few_steps import load_average, train_few_steps
from tadp.demo.train_transformer import Phase
from tadp.demo.trajectories import SHARD, Teacher, record

PHASES = (
    Phase(size=32, batch=16, steps=240, rate=4.0e-4, final_rate=4.0e-4),
    Phase(size=64, batch=8, steps=250, rate=4.0e-4, final_rate=2.0e-5),
)
"""Small clips first: they teach guidance, which the student does without, at a sixth of the cost."""
SHARDS = (60, 18)
"""Recorded shards for each phase."""


def main(arguments: list[str] | None = None) -> None:
    """Record the teacher, train the student or resume either, and write what of its pipeline is its own."""
    options = _parser().parse_args(arguments)
    device = torch.device(options.device)
    if options.only in (None, "record"):
        teacher = _teacher(device)
        for phase, count in zip(PHASES, options.shards, strict=True):
            record(options.runs, teacher, phase.size, range(options.first_shard, count), device)
    if options.only == "record":
        return
    start = WanTransformer3DModel.from_pretrained(options.start_from / "transformer", torch_dtype=torch.float32)
    phases = tuple(dataclasses.replace(phase, steps=steps) for phase, steps in zip(PHASES, options.steps, strict=True))
    if options.only == "export":
        student = load_average(options.runs, start)
    else:
        student = train_few_steps(options.runs, phases, _teacher(device), start.to(device), device)
    save_few_steps(student.to("cpu", torch.bfloat16), options.out)
    plot_training(options.runs / "few-steps.jsonl", options.runs / "few-steps.png", "error of velocities")
    print(f"wrote {options.out}; log and loss curve are in {options.runs}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tadp.demo.distill", description=__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("runs/few-steps"), help="recordings, checkpoints, log (default: %(default)s)")
    add("--out", type=Path, default=FEW_STEP_DIR, help="where the student goes (default: %(default)s)")
    add(
        "--start-from",
        type=Path,
        default=PIPELINE_DIR,
        metavar="PIPELINE",
        help="start from this transformer, such as an earlier student, in new --runs (default: the embedded model)",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add(
        "--steps",
        type=int,
        nargs=len(PHASES),
        default=[phase.steps for phase in PHASES],
        metavar="N",
        help="training steps of each phase (default: %(default)s)",
    )
    add(
        "--shards",
        type=int,
        nargs=len(SHARDS),
        default=list(SHARDS),
        metavar="N",
        help=f"recorded files of {SHARD} samplings of each phase (default: %(default)s)",
    )
    add("--first-shard", type=int, default=0, metavar="N", help="record from this one on, where others record the rest")
    add(
        "--only",
        choices=("record", "train", "export"),
        help="do one part: record, train on what is recorded, or write the newest checkpoint",
    )
    return parser


def _teacher(device: torch.device) -> Teacher:
    pipeline = WanPipeline.from_pretrained(PIPELINE_DIR, torch_dtype=torch.bfloat16)
    transformer = pipeline.transformer.to(device).eval().requires_grad_(False)
    transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    text_encoder = pipeline.text_encoder.to(device).eval().requires_grad_(False)
    return Teacher(transformer, text_encoder, pipeline.tokenizer)


if __name__ == "__main__":
    main()

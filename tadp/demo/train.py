"""Train the embedded model from nothing: `python -m tadp.demo.train`. Resumes where an interrupted run stopped."""

import argparse
import dataclasses
import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline

from tadp.demo import PIPELINE_DIR
from tadp.demo.architecture import make_scheduler, make_tokenizer
from tadp.demo.plot import plot_training
from tadp.demo.train_autoencoder import train_autoencoder
from tadp.demo.train_transformer import Phase, load_average, train_transformer

AUTOENCODER_STEPS = 1300
PHASES = (
    Phase(size=32, batch=16, steps=1600, rate=2.0e-3, final_rate=1.0e-3),
    Phase(size=64, batch=6, steps=700, rate=1.0e-3, final_rate=2.0e-5),
)
"""Small clips first: a step of 16 clips of 32x32 costs less than one of 6 at full size, and teaches the captions."""


def main(arguments: list[str] | None = None) -> None:
    """Run or resume the training and write the pipeline, its log and nothing half finished."""
    parser = argparse.ArgumentParser(prog="python -m tadp.demo.train", description=__doc__)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/demo"), help="checkpoints and logs (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=PIPELINE_DIR, help="where the pipeline goes (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, nargs=len(PHASES), help="steps of each transformer phase", metavar="N")
    parser.add_argument("--batch-scale", type=int, default=1, help="multiply batch sizes, for GPUs (default: 1)")
    parser.add_argument("--export-only", action="store_true", help="write the pipeline from the newest checkpoint")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    phases = tuple(
        dataclasses.replace(phase, steps=steps, batch=phase.batch * options.batch_scale)
        for phase, steps in zip(PHASES, options.steps or [phase.steps for phase in PHASES], strict=True)
    )
    autoencoder = _autoencoder(options.runs, device)
    tokenizer = make_tokenizer()
    if options.export_only:
        transformer, text_encoder = load_average(options.runs)
    else:
        transformer, text_encoder = train_transformer(options.runs, phases, autoencoder, tokenizer, device)
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.to("cpu", torch.bfloat16),
        vae=autoencoder.to("cpu", torch.bfloat16),
        transformer=transformer.to("cpu", torch.bfloat16),
        scheduler=make_scheduler(),
    )
    save_pipeline(pipeline, options.out)
    plot_training(options.runs / "transformer.jsonl", options.runs / "transformer.png")
    print(f"wrote {options.out}; log and loss curve are in {options.runs}")


def save_pipeline(pipeline: WanPipeline, directory: Path) -> None:
    """Write a pipeline beside its final place, then swap it in: a reader never sees half of it."""
    partial, previous = (
        directory.with_name(directory.name + ".partial"),
        directory.with_name(directory.name + ".previous"),
    )
    pipeline.save_pretrained(partial)
    if directory.exists():
        os.replace(directory, previous)
    os.replace(partial, directory)
    if previous.exists():
        shutil.rmtree(previous)


def _autoencoder(runs: Path, device: torch.device) -> AutoencoderKLWan:
    """The trained autoencoder, from a finished earlier run where there is one."""
    finished = runs / "vae"
    if finished.exists():
        return AutoencoderKLWan.from_pretrained(finished).to(device).eval().requires_grad_(False)
    autoencoder = train_autoencoder(runs, AUTOENCODER_STEPS, device)
    partial = runs / "vae.partial"
    autoencoder.save_pretrained(partial)
    os.replace(partial, finished)
    return autoencoder


if __name__ == "__main__":
    main()

"""What do balanced channels and mixed widths gain in whole clips?

Clips of the embedded model in float32 against those at 16 bits from the same noise. Largest values and importance of
channels come from two other prompts, as `tadp calibrate` finds them; costs and score of a calibration play no part.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import tadp
from bench.models.model import demo_calibration, demo_pipeline
from bench.models.probes import FIRST_SCENE
from bench.quality.proof.clips import ARGUMENTS
from bench.record import parser, record
from tadp.calibration.clips import ClipMeasurer
from tadp.calibration.samples import SampleFile
from tadp.calibration.subject import prepare
from tadp.compiler.layers import block_linears
from tadp.demo import CALIBRATION_PROMPTS
from tadp.demo.scenes import sample_scene
from tadp.policy import Policy, parse
from tadp.precision import Role

BALANCES = (None, 0.5, 0.75)
UNIFORM = ("static:8", "static:8+attention", "static:6", "static:4")
MIXED = ("static:7m", "static:6m", "static:5m")


def _compiled(pipeline: Any, policy: Policy, rotated: tuple[Role, ...]) -> Any:
    return tadp.compile(pipeline, policy=policy, rotate=rotated)


def main() -> None:
    """PSNR of every level, with and without balancing."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=5)
    chosen = options.parse_args()
    prompts = [sample_scene(FIRST_SCENE + index, 1 + index % 5).caption for index in range(chosen.prompts)]
    learnt = CALIBRATION_PROMPTS.read_text().splitlines()[:2]
    pipeline = demo_pipeline(torch.float32)
    linears = block_linears(pipeline.transformer)
    layers = {found.layer: found.module for found in linears}
    roles = {found.layer: found.role for found in linears if found.role is not None}
    shipped = demo_calibration(pipeline.transformer)
    subject = prepare(pipeline, learnt, ARGUMENTS, layers, roles, _compiled)
    calibration = replace(shipped, channel_peaks=subject.peaks, channel_widths=subject.channel_widths)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for balance in BALANCES:
            compiled = tadp.compile(
                demo_pipeline(torch.float32), policy="static:16", calibration=calibration, balance=balance
            )
            file = SampleFile(directory / f"{balance}.jsonl", {})
            measurer = ClipMeasurer(compiled, ARGUMENTS, file, directory / "references")
            for policy in map(parse, (*UNIFORM, *(MIXED if balance is None else ()))):
                outcomes = [
                    measurer.measure(prompt, seed, policy)
                    for seed, prompt in enumerate(tqdm(prompts, desc=f"{policy}, balance {balance}", unit="clip"))
                ]
                psnr = np.array([found.psnr for found in outcomes])
                rows.append(
                    {
                        "policy": str(policy),
                        "balance": "" if balance is None else balance,
                        "PSNR, dB": psnr.mean(),
                        "lowest": psnr.min(),
                        "temporal error": float(np.mean([found.temporal_error or 0.0 for found in outcomes])),
                    }
                )
    record("channels", rows, chosen.json, prompts=len(prompts))


if __name__ == "__main__":
    main()

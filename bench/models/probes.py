"""Does the score depend on the levels that a probe runs at?

Ranges and weights of the calibrated score come from probes at 16 bits; up to version 0.2 at 8 bits with the ends at 16.
A budget probes at what it would choose for content of medium complexity. The same prompts and noise are probed both
ways.
"""

from typing import Any

import numpy as np
import torch
from diffusers import WanPipeline
from tqdm import tqdm

import tadp
from bench.models.model import demo_calibration, demo_pipeline
from bench.quality.correlation import spearman
from bench.quality.proof.clips import ARGUMENTS
from bench.record import parser, record
from tadp.calibration.clip_policies import PROBE
from tadp.calibration.fit import candidates
from tadp.calibration.samples import Sample
from tadp.complexity.score import judge
from tadp.demo.scenes import sample_scene
from tadp.policy import Policy, parse
from tadp.policy.complexity import PROBE_STEPS
from tadp.policy.plans import scored
from tadp.runtime.signals import features

FIRST_SCENE = 8 * 10**9
"""Scenes of calibration begin at 7e9."""


def main() -> None:
    """Every feature that weighs, and the score, by either probe."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=16)
    options.add_argument("--policy", default="budget:quality=46,ends=free", help="whose probe is compared")
    chosen = options.parse_args()
    plain = demo_pipeline(torch.float32)
    calibration = demo_calibration(plain.transformer)
    pipeline = tadp.compile(plain, policy="static:16", calibration=calibration)
    captions = [sample_scene(FIRST_SCENE + index, 1 + index % 5).caption for index in range(chosen.prompts)]
    found: list[list[dict[str, float]]] = []
    for policy in (PROBE, parse(chosen.policy)):
        probed = [
            candidates(Sample(caption, seed, probe(pipeline, caption, seed, policy)))
            for seed, caption in enumerate(tqdm(captions, desc=f"probing by {policy}"))
        ]
        scores = [judge(values, calibration.ranges, calibration.weights) for values in probed]
        found.append(
            [
                {**values, "score": 0.5 if score is None else score.total}
                for values, score in zip(probed, scores, strict=True)
            ]
        )
    rows = []
    for name in ("score", *sorted(name for name in calibration.ranges if not name.startswith("text."))):
        ours, theirs = (np.array([values[name] for values in way]) for way in found)
        rows.append(
            {
                "feature": name,
                "weight": "" if name == "score" else abs(calibration.ranges[name].weight),
                "mean at 16 bits": ours.mean(),
                f"mean by {chosen.policy}": theirs.mean(),
                "spread over prompts": ours.std(),
                "mean difference": np.abs(ours - theirs).mean(),
                "rank correlation": spearman(ours, theirs),
            }
        )
    record("probes", rows, chosen.json, prompts=len(captions))


def probe(pipeline: WanPipeline, caption: str, seed: int, policy: Policy) -> dict[str, float]:
    """What the probe of a policy measures; the generation ends with it."""
    controller = pipeline.tadp  # type: ignore[attr-defined]
    controller.use(policy)

    def stop(running: Any, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        running._interrupt = step + 1 >= PROBE_STEPS
        return tensors

    pipeline(
        caption, generator=torch.Generator().manual_seed(seed), callback_on_step_end=stop, output_type="np", **ARGUMENTS
    )
    latest = [record for record in controller.history if record.generation == controller.clock.generation]
    blocks = scored(tuple(block for block, _ in latest[0].plan))
    return features([record.signals for record in latest if record.signals is not None], blocks)


if __name__ == "__main__":
    main()

"""What does each static level cost which content, and do the signals of a probe, or the prompt, predict it?

Clips of the embedded model from the same noise, against the clip at 16 bits. A caption takes most of a minute: samples
are kept in a file, and the next run goes on with it.
"""

import importlib.metadata
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from torchmetrics.functional.regression import spearman_corrcoef
from tqdm import tqdm

import tadp
from bench.model import GENERATION, demo_pipeline
from bench.probe_run import signals_of_probe
from bench.probing import Probing
from bench.record import parser, record
from tadp.calibration.samples import Damage, Sample, SampleFile
from tadp.complexity import text
from tadp.demo.scenes import sample_scene
from tadp.policy.complexity import PROBE_STEPS
from tadp.precision import L4, L6, Recipe
from tadp.quality.fidelity import ssim
from tadp.quality.temporal import temporal_error
from tadp.runtime.signals import features

POLICIES = ("static:8", "static:8+attention", "static:6", "static:4")
PROBE = Probing(steps=PROBE_STEPS, others=(Recipe(L6), Recipe(L4)), shadow_budget=1.0)
FIRST_SEED = 5 * 10**9
"""Of scenes; the embedded model was trained on smaller ones."""


def main() -> None:
    """Measure what is missing in the file, then correlate."""
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=48, help="captions, of one to five objects in turn")
    options.add_argument("--steps", type=int, default=GENERATION["num_inference_steps"])
    options.add_argument("--file", type=Path, default=Path("out/damage.jsonl"), help="where samples are kept")
    chosen = options.parse_args()
    key = {"model": "embedded", "tadp": importlib.metadata.version("tadp"), "torch": torch.__version__}
    file = SampleFile(chosen.file, {**key, "policies": POLICIES, "steps": chosen.steps})
    captions = [sample_scene(FIRST_SEED + index, 1 + index % 5).caption for index in range(chosen.samples)]
    missing = [(seed, caption) for seed, caption in enumerate(captions) if not file.has(caption, seed)]
    if missing:
        pipeline = tadp.compile(demo_pipeline(), policy="static:16")
        for seed, caption in tqdm(missing, desc="measuring", unit="sample"):
            file.add(measure(pipeline, caption, seed, chosen.steps))
    samples = [sample for sample in file.samples if sample.prompt in captions]
    record("damage, dB", [row(policy, samples) for policy in POLICIES], None)
    record("damage", correlations(samples), chosen.json, samples=len(samples), steps=chosen.steps)


def measure(pipeline: WanPipeline, caption: str, seed: int, steps: int) -> Sample:
    """The probe's signals and the damage of every policy for one caption."""

    def clip(policy: str) -> tuple[torch.Tensor, float]:
        pipeline.tadp.use(policy)
        started = time.perf_counter()
        frames = pipeline(caption, generator=torch.Generator().manual_seed(seed), **request).frames[0]
        return torch.from_numpy(frames), time.perf_counter() - started

    request = {**GENERATION, "num_inference_steps": steps}
    pipeline.tadp.use(PROBE)
    found = features(signals_of_probe(pipeline, caption, seed, num_inference_steps=steps))
    reference, _ = clip("static:16")
    damage = {}
    for policy in POLICIES:
        ours, seconds = clip(policy)
        mse = (ours - reference).square().mean().item()
        damage[policy] = Damage(mse, ssim(ours, reference), temporal_error(ours, reference), seconds)
    return Sample(caption, seed, found, damage)


def row(policy: str, samples: list[Sample]) -> dict[str, object]:
    """What a policy costs over all samples."""
    found = np.array([sample.damage[policy].psnr for sample in samples])
    return {"policy": policy, "PSNR, mean": found.mean(), "lowest": found.min(), "standard deviation": found.std()}


def correlations(samples: list[Sample]) -> list[dict[str, object]]:
    """Rank correlation of each predictor with the loss in PSNR of each policy, with its 95 % interval (bootstrap)."""
    rows = []
    for name, values in predictors(samples).items():
        found: dict[str, object] = {"predictor": name}
        for policy in POLICIES:
            losses = np.array([-sample.damage[policy].psnr for sample in samples])
            low, high = interval(values, losses)
            found |= {policy: spearman(values, losses), f"{policy}, 95 %": f"{low:.2f} to {high:.2f}"}
        rows.append(found)
    return rows


def predictors(samples: list[Sample]) -> dict[str, np.ndarray]:
    """What is known of a sample after its probe, each an array over samples."""
    scores = [text.score(sample.prompt) for sample in samples]
    known = [
        {f"text.{part}": getattr(score, part) for part in ("entity", "spatial", "temporal", "total")}
        | dict(sample.features)
        for sample, score in zip(samples, scores, strict=True)
    ]
    common = [name for name in known[0] if all(name in found for found in known)]
    return {name: np.array([found[name] for found in known]) for name in common}


def spearman(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Rank correlation."""
    return spearman_corrcoef(torch.from_numpy(ours).float(), torch.from_numpy(theirs).float()).item()


def interval(ours: np.ndarray, theirs: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """95 % of the rank correlations of samples drawn with replacement."""
    generator = np.random.default_rng(0)
    picks = generator.integers(len(ours), size=(draws, len(ours)))
    found = [spearman(ours[pick], theirs[pick]) for pick in picks]
    return tuple(np.nanpercentile(found, (2.5, 97.5)))


if __name__ == "__main__":
    main()

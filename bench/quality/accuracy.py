"""How far is each level from 16 bits, per forward and per finished clip of the embedded model?"""

import statistics

import torch
from diffusers import WanPipeline, WanTransformer3DModel

import tadp
from bench.models.model import GENERATION, demo_inputs, demo_pipeline, demo_transformer
from bench.record import parser, record
from tadp.demo.scenes import sample_scene
from tadp.quality.fidelity import psnr

STATIC = ("static:16", "static:16+attention", "static:8", "static:8+attention", "static:6", "static:4")
POLICIES = (*STATIC, "complexity")


def main() -> None:
    """Forwards at five timesteps against torch.compile, then clips of one to five objects against static:16."""
    options = parser(__doc__)
    options.add_argument("--clips", type=int, default=10)
    options.add_argument("--policies", nargs="+", default=POLICIES, help="instead of the usual ones")
    chosen = options.parse_args()
    policies = tuple(dict.fromkeys(("static:16", *chosen.policies)))
    errors = forward_errors([policy for policy in policies if policy.startswith("static:")])
    clips = clip_psnr(policies, chosen.clips)
    rows = [
        {
            "policy": policy,
            "relative error of a forward": statistics.fmean(errors[policy]) if policy in errors else "-",
            "largest": max(errors[policy]) if policy in errors else "-",
            "PSNR of clips, dB (mean)": statistics.fmean(clips[policy]) if policy in clips else "-",
            "lowest": min(clips[policy]) if policy in clips else "-",
        }
        for policy in policies
    ]
    record("accuracy", rows, chosen.json, clips=chosen.clips, reference="forward: torch.compile; clips: static:16")


def forward_errors(policies: list[str]) -> dict[str, list[float]]:
    """Relative error of single forwards; the rival is the same model under plain torch.compile."""
    plain = torch.compile(demo_transformer(), dynamic=False)
    model = tadp.compile(demo_transformer(), policy="static:16", calibration=None)
    inputs = [demo_inputs(timestep=timestep) for timestep in (1000.0, 900.0, 700.0, 400.0, 100.0)]
    with torch.no_grad():
        references = [plain(**given)[0].double() for given in inputs]
    found: dict[str, list[float]] = {}
    for policy in policies:
        model.tadp.use(policy)
        outputs = [model(**given)[0].double() for given in inputs]
        pairs = zip(outputs, references, strict=True)
        found[policy] = [((output - reference).norm() / reference.norm()).item() for output, reference in pairs]
    return found


def clip_psnr(policies: tuple[str, ...], count: int) -> dict[str, list[float]]:
    """PSNR of clips against static:16, the first policy, all from the same noise, one to five objects in turn."""
    pipeline: WanPipeline = tadp.compile(demo_pipeline(), policy="static:16", calibration=None)
    transformer: WanTransformer3DModel = pipeline.transformer
    prompts = [sample_scene(4 * 10**9 + index, 1 + index % 5).caption for index in range(count)]
    clips: dict[str, list[torch.Tensor]] = {}
    for policy in policies:
        transformer.tadp.use(policy)
        clips[policy] = [_generate(pipeline, prompt, seed) for seed, prompt in enumerate(prompts)]
    return {
        policy: [psnr(clip, reference) for clip, reference in zip(clips[policy], clips["static:16"], strict=True)]
        for policy in policies[1:]
    }


def _generate(pipeline: WanPipeline, prompt: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.from_numpy(pipeline(prompt, generator=generator, **GENERATION).frames[0])


if __name__ == "__main__":
    main()

"""What is compared: static settings, fewer steps, step caches, another adaptive rule, and tadp's default."""

from dataclasses import dataclass

from diffusers import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig

from bench.models.model import GENERATION
from bench.quality.proof.caches import Config

STEPS: int = GENERATION["num_inference_steps"]
REFERENCE = "static:16"
BASELINE = "static:8"


@dataclass(frozen=True)
class Setting:
    """One way to make a clip.

    Attributes:
        policy: of tadp.
        steps: of the sampler.
        cache: of diffusers, around what the policy runs; None for none.
        name: in tables and files.
        kind: "static", "fewer steps", "cache", "adaptive" (a rival's rule) or "tadp".
        calibrated: whether it takes what the embedded model ships of its calibration.
    """

    policy: str
    steps: int = STEPS
    cache: Config | None = None
    name: str = ""
    kind: str = "static"
    calibrated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.policy)


STATIC = tuple(Setting(f"static:{level}") for level in ("16", "8", "8+attention", "16+attention", "w8a16", "6", "4"))
FEWER = tuple(
    Setting(policy, steps, name=f"{policy}, {steps} steps", kind="fewer steps")
    for policy, steps in (
        ("static:16", 16),
        ("static:16", 14),
        ("static:16", 10),
        ("static:8", 14),
        ("static:8+attention", 16),
    )
)
CACHES = tuple(
    Setting(base, cache=config, name=f"{base}, {name}", kind="cache")
    for base in ("static:16", "static:8")
    for name, config in {
        **{f"FirstBlockCache {bound}": FirstBlockCacheConfig(threshold=bound) for bound in (0.08, 0.1, 0.15)},
        **{
            # Of steps that are never skipped, diffusers' default is 20 %; 40 % is several dB better on this model.
            f"MagCache {bound}": MagCacheConfig(
                threshold=bound, retention_ratio=0.4, num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS
            )
            for bound in (0.01, 0.03, 0.06)
        },
        **{
            f"TaylorSeer every {interval} from {first}": TaylorSeerCacheConfig(
                cache_interval=interval, disable_cache_before_step=first, use_lite_mode=True
            )
            for interval, first in ((2, 3), (2, 8), (3, 8))
        },
    }.items()
)
RULES = tuple(
    Setting(policy, kind="adaptive") for policy in ("difference:threshold=0.4", "difference:threshold=0.4,reuse=0.01")
)
OURS = tuple(
    Setting(policy, kind="tadp")
    for policy in (
        "complexity",
        "complexity:late=0.95/0.88/0.85,reuse=0.0075",
        "complexity:late=1/0.95/0.9,reuse=0.0075",
        "complexity:late=1/0.95/0.9,reuse=0.015",
        "complexity:late=0.85/0.75/0.7,reuse=0.004",
        "static:8+attention+reuse:0.0075",
    )
)
SCORED = ("complexity", "complexity, calibrated")
"""Settings whose clips have scores."""
CALIBRATED = (
    Setting("complexity", name=SCORED[1], kind="tadp", calibrated=True),
    Setting(
        "complexity:late=1/0.95/0.9,reuse=0.015/0.0075/0.005",
        name="complexity, calibrated:late=1/0.95/0.9,reuse=0.015/0.0075/0.005",
        kind="tadp",
        calibrated=True,
    ),
    *(
        Setting(policy, kind="tadp", calibrated=True)
        for policy in (
            "budget:quality=40,ends=free",
            "budget:quality=43,ends=free",
            "budget:quality=46,ends=free",
        )
    ),
)
ALL = (*STATIC, *FEWER, *CACHES, *RULES, *OURS, *CALIBRATED)

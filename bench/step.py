"""How long is a step of a model of Wan2.1-1.3B's shape at each level, against torch.compile in bfloat16?

Two of the 30 blocks, at their real width: 1,536 channels, 12 heads, 8,960 in the feed-forward, 1,280 video tokens.
"""

import statistics

import torch
from diffusers import WanTransformer3DModel

import tadp
from bench.record import parser, record, timed

POLICIES = ("static:16", "static:8", "static:6", "static:4")
RIVAL = "torch.compile, bfloat16"
FRAMES, HEIGHT, WIDTH = 5, 32, 32
"""Of the latent: patches of (1, 2, 2) make 5 * 16 * 16 tokens."""


def main() -> None:
    """Interleave forwards of all candidates and compare medians."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=15)
    chosen = options.parse_args()
    times = measure(chosen.repeats)
    base = statistics.median(times[RIVAL])
    rows = [
        {"model": name, "forward, s": statistics.median(taken), "times as fast": base / statistics.median(taken)}
        for name, taken in times.items()
    ]
    record("step", rows, chosen.json, tokens=FRAMES * HEIGHT * WIDTH // 4, blocks=2)


def measure(repeats: int) -> dict[str, list[float]]:
    """Seconds of every forward, by candidate."""
    inputs = _inputs()
    plain = torch.compile(_transformer(), dynamic=False)
    model = tadp.compile(_transformer(), policy=POLICIES[0])
    times: dict[str, list[float]] = {name: [] for name in (RIVAL, *POLICIES)}
    with torch.no_grad():
        plain(**inputs)
        for policy in POLICIES:
            model.tadp.use(policy)
            model(**inputs)
        for _ in range(repeats):
            times[RIVAL].append(timed(lambda: plain(**inputs)))
            for policy in POLICIES:
                model.tadp.use(policy)
                model(**inputs)  # after a switch masters and planes come in: not part of a step
                times[policy].append(timed(lambda: model(**inputs)))
    return times


def _transformer() -> WanTransformer3DModel:
    torch.manual_seed(0)
    model = WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=2)
    return model.bfloat16().eval().requires_grad_(False)


def _inputs() -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 16, FRAMES, HEIGHT, WIDTH, generator=generator).bfloat16(),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.randn(1, 512, 4096, generator=generator).bfloat16(),
        "return_dict": False,
    }


if __name__ == "__main__":
    main()

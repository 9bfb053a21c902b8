"""What do LoRA adapters cost a step beside packed layers, and how long does fusing one take?

Two blocks of the size of Wan2.1-1.3B at 1,280 tokens and 8 bits; steps with and without adapters take turns.
"""

import statistics
import time
from collections.abc import Callable

import torch
from diffusers import WanTransformer3DModel

import tadp
from bench.record import parser, record
from tadp import processor

RANKS = (16, 64, 128)
LAYERS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2")
BLOCKS = 2


def main() -> None:
    """Milliseconds of a step by rank, and seconds of fusing."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args()
    dtype = torch.bfloat16 if processor.multiplies_bfloat16() else torch.float32
    plain = model(dtype)
    inputs = inputs_of(dtype)
    models = {0: tadp.compile(plain, policy="static:8", calibration=None)}
    for rank in RANKS:
        models[rank] = tadp.compile(model(dtype), policy="static:8", calibration=None)
        models[rank].load_lora_adapter(adapter(models[rank], rank), adapter_name="one")
    times = interleaved({rank: (lambda each=each: each(**inputs)) for rank, each in models.items()}, chosen.rounds)
    rows = [
        {"rank": rank, "ms a step": 1e3 * statistics.median(taken), "x": ratio(taken, times[0])}
        for rank, taken in times.items()
    ]
    parameters = sum(
        plain.get_submodule(f"blocks.{block}.{layer}").weight.numel() for block in range(BLOCKS) for layer in LAYERS
    )
    started = time.perf_counter()
    models[16].fuse_lora()
    seconds = time.perf_counter() - started
    record(
        "adapters",
        rows,
        chosen.json,
        dtype=str(dtype),
        fusing={"seconds": seconds, "seconds a billion": seconds / parameters * 1e9},
    )


def model(dtype: torch.dtype) -> WanTransformer3DModel:
    """Blocks of Wan2.1-1.3B's size with random weights."""
    torch.manual_seed(0)
    made = WanTransformer3DModel(
        num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=BLOCKS, text_dim=512
    )
    return made.to(dtype).eval()


def inputs_of(dtype: torch.dtype) -> dict[str, object]:
    """1,280 tokens: five frames of 32 by 32, in patches of 2 by 2."""
    return {
        "hidden_states": torch.randn(1, 16, 5, 32, 32).to(dtype),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 64, 512).to(dtype),
        "return_dict": False,
    }


def adapter(transformer: torch.nn.Module, rank: int) -> dict[str, torch.Tensor]:
    """A LoRA of all self-attention and feed-forward layers."""
    state = {}
    for block in range(BLOCKS):
        for layer in LAYERS:
            rows, columns = transformer.get_submodule(f"blocks.{block}.{layer}").weight.shape
            state[f"transformer.blocks.{block}.{layer}.lora_A.weight"] = torch.randn(rank, columns) / columns**0.5
            state[f"transformer.blocks.{block}.{layer}.lora_B.weight"] = torch.randn(rows, rank) * 0.01
    return state


def interleaved(calls: dict[int, Callable[[], object]], rounds: int) -> dict[int, list[float]]:
    """Seconds of each call, one after the other in every round; the first two rounds do not count."""
    taken: dict[int, list[float]] = {key: [] for key in calls}
    with torch.inference_mode():
        for number in range(rounds + 2):
            for key, call in calls.items():
                started = time.perf_counter()
                call()
                if number >= 2:
                    taken[key].append(time.perf_counter() - started)
    return taken


def ratio(taken: list[float], reference: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(own / other for own, other in zip(taken, reference, strict=True))


if __name__ == "__main__":
    main()

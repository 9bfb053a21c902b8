"""Recorded samplings of the embedded model with guidance: what its few-step student learns from.

The teacher samples captions from noise in many guided steps. Only the states at the few levels that the student will
visit are kept. So each sampling gives one lesson for each of the student's steps: the straight way from one kept state
to the next. This is one round of progressive distillation (Salimans and Ho, arXiv 2202.00512) with the guidance folded
in (Meng et al., arXiv 2210.03142).
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from tadp.demo.architecture import FLOW_SHIFT, LATENT_CHANNELS
from tadp.demo.render import SIZE
from tadp.demo.scenes import sample_scene
from tadp.demo.train_transformer import encode_captions, rotary_stride, short_sequence_attention
from tadp.sampling.schedule import rcm_sigmas
from tadp.writing import replacing

LEVELS = tuple(rcm_sigmas(4))
"""The levels at which states are kept: where the student's four steps begin, and clean data."""
SUBSTEPS = (2, 2, 4, 4)
"""The teacher's steps within each of the student's: about even along its own shifted schedule."""
GUIDANCE = 4.0
SHARD = 8
"""Samplings in one file."""
FIRST_SEED = 7 * 10**9
"""Captions from here on are neither those of the training nor those of the checks."""
TEXT_TOKENS = 64
LATENT_FRAMES = 5

Velocity = Callable[[torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True)
class Teacher:
    """What records: the embedded model's transformer, text encoder and tokenizer."""

    transformer: WanTransformer3DModel
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerFast


def caption_of(seed: int) -> str:
    """The caption of a seed; every second one is about a single object."""
    return sample_scene(FIRST_SEED + seed, 1 if seed % 2 else None).caption


def fine_levels() -> list[list[float]]:
    """The teacher's levels in each of the student's steps, both ends included, evenly spaced before the shift."""
    steps = []
    for (high, low), count in zip(itertools.pairwise(LEVELS), SUBSTEPS, strict=True):
        first, last = (level / (FLOW_SHIFT - (FLOW_SHIFT - 1) * level) for level in (high, low))
        even = [first + (last - first) * index / count for index in range(count + 1)]
        shifted = [FLOW_SHIFT * value / (1 + (FLOW_SHIFT - 1) * value) for value in even]
        steps.append([high, *shifted[1:-1], low])
    return steps


def sample_states(noise: torch.Tensor, velocity: Velocity, levels: Sequence[Sequence[float]]) -> torch.Tensor:
    """States at the kept levels, sampled from unit noise with the two-step Adams-Bashforth rule.

    Args:
        noise: ``(batch, ...)``, of unit variance.
        velocity: of a state at a level, the way from data to noise.
        levels: as `fine_levels` gives them.

    Returns:
        ``(batch, steps + 1, ...)``: the noise, then the state at the end of each step.
    """
    state = noise * levels[0][0]
    states = [noise]
    previous: tuple[torch.Tensor, float] | None = None
    for step in levels:
        for high, low in itertools.pairwise(step):
            slope, width = velocity(state, high), low - high
            ahead = slope
            if previous is not None:  # the polynomial through the last two slopes, integrated over the step
                ahead = slope + (slope - previous[0]) * (width / (2 * previous[1]))
            state, previous = state + width * ahead, (slope, width)
        states.append(state)
    return torch.stack(states, dim=1)


def ways(states: torch.Tensor) -> torch.Tensor:
    """Constant velocities from each kept state to the next: ``(batch, steps, ...)``, of what `sample_states` gives."""
    levels = torch.tensor(LEVELS, dtype=states.dtype).view(1, -1, *[1] * (states.ndim - 2))
    scaled = torch.cat([states[:, :1] * LEVELS[0], states[:, 1:]], dim=1)
    return scaled.diff(dim=1) / levels.diff(dim=1)


@torch.no_grad()
def record(directory: Path, teacher: Teacher, size: int, shards: range, device: torch.device) -> None:
    """Sample what is missing of some shards; several processes may record different ones side by side."""
    missing = [index for index in shards if not shard_path(directory, size, index).exists()]
    stride = SIZE // size
    options = (rotary_stride(teacher.transformer, stride), short_sequence_attention(enabled=stride > 1))
    with options[0], options[1]:
        for index in tqdm(missing, desc=f"trajectories {size}x{size}", unit="shard", dynamic_ncols=True):
            seeds = range(index * SHARD, (index + 1) * SHARD)
            shape = (LATENT_CHANNELS, LATENT_FRAMES, size // 4, size // 4)
            noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
            guided = _guided(teacher, [caption_of(seed) for seed in seeds], device)
            states = sample_states(noise.to(device), guided, fine_levels())
            with replacing(shard_path(directory, size, index)) as temporary:
                save_file({"states": states.half().cpu()}, temporary)


def shard_path(directory: Path, size: int, index: int) -> Path:
    """Where a shard lies."""
    return directory / "trajectories" / str(size) / f"{index:05d}.safetensors"


def lessons(
    directory: Path, size: int, batch: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]]:
    """Batches of states, levels, velocities to learn and captions; each lesson comes once an epoch.

    Every epoch looks for shards again, so recording may go on beside the training.

    Raises:
        FileNotFoundError: where nothing was recorded.
    """
    rng = random.Random(seed)
    while True:
        found = sorted((directory / "trajectories" / str(size)).glob("[0-9]*.safetensors"))
        if not found:
            raise FileNotFoundError(f"no trajectories of {size}x{size} in {directory / 'trajectories'}")
        states = torch.cat([load_file(path)["states"] for path in found])
        seeds = [int(path.stem) * SHARD + index for path in found for index in range(SHARD)]
        order = [(row, step) for row in range(len(states)) for step in range(len(LEVELS) - 1)]
        rng.shuffle(order)
        for first in range(0, len(order) - batch + 1, batch):
            picked = order[first : first + batch]
            rows, steps = (list(column) for column in zip(*picked, strict=True))
            chosen = states[rows].float()
            each = torch.arange(batch)
            levels = torch.tensor([LEVELS[step] for step in steps])
            yield chosen[each, steps], levels, ways(chosen)[each, steps], [caption_of(seeds[row]) for row in rows]


def _guided(teacher: Teacher, captions: list[str], device: torch.device) -> Velocity:
    """The teacher's velocity with classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""
    text = encode_captions(teacher.tokenizer, teacher.text_encoder, captions + [""] * len(captions), TEXT_TOKENS)

    def velocity(state: torch.Tensor, level: float) -> torch.Tensor:
        times = torch.full((len(text),), level * 1000, device=device)
        both = torch.cat([state, state]).to(teacher.transformer.dtype)
        asked, free = teacher.transformer(both, times, text, return_dict=False)[0].float().chunk(2)
        return free + GUIDANCE * (asked - free)

    return velocity

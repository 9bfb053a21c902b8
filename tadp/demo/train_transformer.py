"""Second stage of training: the transformer and the text encoder learn flow matching on latents of rendered clips.

Rectified flow (Lipman et al., arXiv 2210.02747, section 4.1): x_s = (1 - s) x_0 + s e; the network predicts e - x_0.
"""

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.transformers import transformer_wan
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from tadp.demo.architecture import FLOW_SHIFT, latent_statistics, make_text_encoder, make_transformer
from tadp.demo.checkpoint import load_state, save_state
from tadp.demo.progress import TrainingLog
from tadp.demo.render import NUM_FRAMES, SIZE, render
from tadp.demo.scenes import sample_scene

CAPTION_DROPOUT = 0.1
EMA_DECAY = 0.9985
WARMUP_STEPS = 100
CHECKPOINT_EVERY = 200
POOL_CLIPS = 2048
CLIP_USES = 4
PAD_LENGTHS = (64, 64, 64, 192)
"""Lengths that captions are padded to: varied, so that the model learns to pass over any number of padding tokens."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one resolution; the learning rate runs linearly from `rate` to `final_rate`."""

    size: int
    batch: int
    steps: int
    rate: float
    final_rate: float


def train_transformer(
    directory: Path,
    phases: tuple[Phase, ...],
    autoencoder: AutoencoderKLWan,
    tokenizer: PreTrainedTokenizerFast,
    device: torch.device,
) -> tuple[WanTransformer3DModel, UMT5EncoderModel]:
    """Train through all phases or resume; returns the averaged (EMA) transformer and text encoder."""
    torch.manual_seed(1)
    transformer, text_encoder = make_transformer().to(device), make_text_encoder().to(device)
    networks = torch.nn.ModuleDict({"transformer": transformer, "text_encoder": text_encoder})
    average = copy.deepcopy(networks).requires_grad_(False)
    optimizers = make_optimizers(networks, transformer)
    modules = {"networks": networks, "average": average}
    total = sum(phase.steps for phase in phases)
    progress = load_state(directory / "transformer", modules, optimizers) or {"step": 0}
    transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    first = int(progress["step"])
    with TrainingLog(directory / "transformer.jsonl", "transformer", total, first) as log:
        start = 0
        for phase in phases:
            if first >= start + phase.steps:
                start += phase.steps
                continue
            pool = _latent_pool(autoencoder, phase, device, seed=first * 7919)
            for step in range(max(first, start), start + phase.steps):
                set_rates(optimizers, phase, step, start)
                with short_sequence_attention(enabled=phase.size < SIZE and device.type == "cpu"):
                    loss = _train_step(networks, tokenizer, pool, phase, step, device)
                for optimizer in optimizers.values():
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                decay = min(EMA_DECAY, (1 + step) / (10 + step))
                torch._foreach_lerp_(list(average.parameters()), list(networks.parameters()), 1 - decay)
                log.add(step + 1, loss=loss, size=phase.size, rate=optimizers["adamw"].param_groups[0]["lr"])
                if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == total:
                    save_state(directory / "transformer", modules, optimizers, {"step": step + 1})
            start += phase.steps
    return average["transformer"].eval(), average["text_encoder"].eval()


def load_average(directory: Path) -> tuple[WanTransformer3DModel, UMT5EncoderModel]:
    """The averaged networks of the newest checkpoint, for looking at a training that is under way.

    Raises:
        FileNotFoundError: where there is no checkpoint yet.
    """
    average = torch.nn.ModuleDict({"transformer": make_transformer(), "text_encoder": make_text_encoder()})
    if load_state(directory / "transformer", {"average": average}, {}) is None:
        raise FileNotFoundError(f"no checkpoint in {directory / 'transformer'}")
    return average["transformer"].eval(), average["text_encoder"].eval()


def encode_captions(
    tokenizer: PreTrainedTokenizerFast, text_encoder: UMT5EncoderModel, captions: list[str], length: int
) -> torch.Tensor:
    """Embed captions as WanPipeline does: ``(captions, length, dim)``, zero past each caption's end."""
    tokens = tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    mask = tokens.attention_mask.to(text_encoder.device)
    states = text_encoder(tokens.input_ids.to(text_encoder.device), mask).last_hidden_state
    return states * mask[:, :, None]


def _train_step(
    networks: torch.nn.ModuleDict,
    tokenizer: PreTrainedTokenizerFast,
    pool: Iterator[tuple[torch.Tensor, list[str]]],
    phase: Phase,
    step: int,
    device: torch.device,
) -> float:
    """Gradients of one batch; returns its loss."""
    latents, captions = next(pool)
    rng = random.Random(step)
    captions = ["" if rng.random() < CAPTION_DROPOUT else caption for caption in captions]
    generator = torch.Generator().manual_seed(step)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    sigma = torch.sigmoid(torch.randn(len(latents), generator=generator)).to(device)
    sigma = FLOW_SHIFT * sigma / (1 + (FLOW_SHIFT - 1) * sigma)
    level = sigma.view(-1, 1, 1, 1, 1)
    transformer = networks["transformer"]
    with torch.autocast(device.type, torch.bfloat16), rotary_stride(transformer, SIZE // phase.size):
        text = encode_captions(tokenizer, networks["text_encoder"], captions, rng.choice(PAD_LENGTHS))
        predicted = transformer(torch.lerp(latents, noise, level), sigma * 1000, text, return_dict=False)[0]
    loss = F.mse_loss(predicted.float(), noise - latents)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
    return loss.item()


def make_optimizers(networks: torch.nn.Module, transformer: WanTransformer3DModel) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for every other parameter of the networks."""
    hidden = [p for p in transformer.blocks.parameters() if p.ndim == 2]
    chosen = {id(p) for p in hidden}
    others = [p for p in networks.parameters() if id(p) not in chosen]
    return {
        "muon": torch.optim.Muon(hidden, lr=1e-3, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0),
    }


def set_rates(optimizers: dict[str, torch.optim.Optimizer], phase: Phase, step: int, start: int) -> None:
    """The learning rates of a step of a phase that began at step `start`."""
    done = (step - start) / phase.steps
    rate = (phase.rate + (phase.final_rate - phase.rate) * done) * min(1.0, (step + 1) / WARMUP_STEPS)
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate


def _latent_pool(
    autoencoder: AutoencoderKLWan, phase: Phase, device: torch.device, seed: int
) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Batches of normalised latents with captions; a rendered clip is used about `CLIP_USES` times, then replaced."""
    mean, std = (value.to(device) for value in latent_statistics(autoencoder))
    rng = random.Random(seed)
    clips: list[tuple[torch.Tensor, str]] = []
    fresh = phase.batch // CLIP_USES
    next_seed = seed
    oldest = 0
    while True:
        count = phase.batch if len(clips) < phase.batch else fresh
        scenes = [sample_scene(next_seed + index) for index in range(count)]
        next_seed += count
        pixels = render(scenes, NUM_FRAMES, phase.size).to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            encoded = autoencoder.encode(pixels).latent_dist.mode()
        new = list(zip(((encoded.float() - mean) / std).unbind(0), (scene.caption for scene in scenes), strict=True))
        if len(clips) < POOL_CLIPS:
            clips += new
        else:
            clips[oldest : oldest + count] = new
            oldest = (oldest + count) % POOL_CLIPS
        picked = new + rng.sample(clips, phase.batch - count)
        yield torch.stack([latent for latent, _ in picked]), [caption for _, caption in picked]


class rotary_stride:
    """Spreads the rotary positions of a small clip over the range of a full-size one, so that growing interpolates."""

    def __init__(self, transformer: WanTransformer3DModel, stride: int) -> None:
        self._rope = transformer.rope
        self._stride = stride

    def __enter__(self) -> None:
        self._saved = self._rope.freqs_cos, self._rope.freqs_sin
        if self._stride > 1:
            self._rope.freqs_cos, self._rope.freqs_sin = (self._strided(table) for table in self._saved)

    def __exit__(self, *_: object) -> None:
        self._rope.freqs_cos, self._rope.freqs_sin = self._saved

    def _strided(self, table: torch.Tensor) -> torch.Tensor:
        frames, spatial = table.split([self._rope.t_dim, table.shape[1] - self._rope.t_dim], dim=1)
        return torch.cat([frames[: len(table) // self._stride], spatial[:: self._stride]], dim=1)


class short_sequence_attention:
    """Plain products instead of the flash kernel: training on CPUs is 1.4 times faster at 320 tokens, not at 1,280."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        self._saved: Callable[..., torch.Tensor] = transformer_wan.dispatch_attention_fn
        if self._enabled:
            transformer_wan.dispatch_attention_fn = _plain_attention

    def __exit__(self, *_: object) -> None:
        transformer_wan.dispatch_attention_fn = self._saved


def _plain_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: object) -> torch.Tensor:
    """``(batch, tokens, heads, dim)`` attention without mask, as diffusers' dispatcher would call it."""
    query, key, value = (item.transpose(1, 2).contiguous() for item in (query, key, value))
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2)

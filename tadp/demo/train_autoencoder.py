"""First stage of training: the video autoencoder learns to give rendered clips back."""

import itertools
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan

from tadp.demo.architecture import make_autoencoder
from tadp.demo.checkpoint import load_state, save_state
from tadp.demo.progress import TrainingLog
from tadp.demo.render import render
from tadp.demo.scenes import sample_scene

KL_WEIGHT = 1e-4
SHARPNESS_WEIGHT = 0.3
PEAK_LEARNING_RATE = 1.2e-3
CHECKPOINT_EVERY = 100
SHAPES = ((8, 9, 32), (4, 5, 64), (4, 17, 32))
"""Batch, frames and side of the clips, in turn: about equal cost, and both resolutions that the transformer sees."""


def train_autoencoder(directory: Path, steps: int, device: torch.device) -> AutoencoderKLWan:
    """Train for `steps` steps or resume, then set the latent statistics that the pipeline normalises by."""
    torch.manual_seed(0)
    autoencoder = make_autoencoder().to(device).train()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    modules, optimizers = {"autoencoder": autoencoder}, {"adamw": optimizer}
    progress = load_state(directory / "autoencoder", modules, optimizers) or {"step": 0}
    with TrainingLog(directory / "autoencoder.jsonl", "autoencoder", steps, int(progress["step"])) as log:
        for step in range(int(progress["step"]), steps):
            warmup, remaining = (step + 1) / 50, (steps - step) / steps
            optimizer.param_groups[0]["lr"] = PEAK_LEARNING_RATE * min(1.0, warmup) * remaining
            batch, frames, size = SHAPES[step % len(SHAPES)]
            scenes = [sample_scene(10**9 + step * 8 + index) for index in range(batch)]
            clips = render(scenes, frames, size).to(device)
            loss, error = _loss(autoencoder, clips, sharpness=SHARPNESS_WEIGHT * step / steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
            optimizer.step()
            log.add(step + 1, loss=loss.item(), mse=error.item())
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
                save_state(directory / "autoencoder", modules, optimizers, {"step": step + 1})
    autoencoder.eval().requires_grad_(False)
    _measure_latents(autoencoder, device)
    return autoencoder


def _loss(autoencoder: AutoencoderKLWan, clips: torch.Tensor, sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error, a small KL term and, weighted by `sharpness`, absolute errors of pixels and of their differences.

    The absolute errors make edges crisp, but from the start they lead to the median picture and stay there.
    """
    with torch.autocast(clips.device.type, torch.bfloat16):
        posterior = autoencoder.encode(clips).latent_dist
        given_back = _decode_unclamped(autoencoder, posterior.sample())
    error = (given_back - clips).square().mean()
    crisp = (given_back - clips).abs().mean()
    for axis in (-1, -2):
        crisp = crisp + (given_back.diff(dim=axis) - clips.diff(dim=axis)).abs().mean()
    loss = error + sharpness * crisp + KL_WEIGHT * posterior.kl().mean() / clips[0, 0].numel()
    return loss, error.detach()


def _decode_unclamped(autoencoder: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """`decode` clamps to [-1, 1], which has no gradient outside: training stops where all pixels leave the range."""
    chunks: list[torch.Tensor] = []
    handle = autoencoder.decoder.register_forward_hook(lambda _module, _inputs, output: chunks.append(output))
    try:
        autoencoder.decode(latents)
    finally:
        handle.remove()
    return torch.cat(chunks, dim=2).float()


@torch.no_grad()
def _measure_latents(autoencoder: AutoencoderKLWan, device: torch.device) -> None:
    latents = []
    for first in itertools.islice(itertools.count(2 * 10**9, 16), 4):
        clips = render([sample_scene(first + index) for index in range(16)]).to(device)
        latents.append(autoencoder.encode(clips).latent_dist.mode().float())
    values = torch.cat(latents).transpose(0, 1).flatten(1)
    autoencoder.register_to_config(
        latents_mean=[round(value, 5) for value in values.mean(1).tolist()],
        latents_std=[round(value, 5) for value in values.std(1).tolist()],
    )

"""Scenes to pixels: shapes as signed distance functions, so that edges are smooth at every resolution."""

from collections.abc import Sequence

import numpy as np
import torch

from tadp.demo.scenes import COLORS, SHAPES, Scene, trajectory

NUM_FRAMES = 17
SIZE = 64


def render(scenes: Sequence[Scene], num_frames: int = NUM_FRAMES, size: int = SIZE) -> torch.Tensor:
    """Render scenes to clips.

    Returns:
        ``(scenes, 3, num_frames, size, size)`` float32 tensor in [-1, 1].
    """
    clips = torch.stack([_background(scene, size) for scene in scenes])
    clips = clips[:, :, None].expand(-1, -1, num_frames, -1, -1).clone()
    for layer in range(max(len(scene.objects) for scene in scenes)):
        chosen = [index for index, scene in enumerate(scenes) if len(scene.objects) > layer]
        items = [scenes[index].objects[layer] for index in chosen]
        paths = torch.from_numpy(np.stack([trajectory(item, num_frames) for item in items])).float()
        shapes = torch.tensor([SHAPES.index(item.shape) for item in items])
        colors = torch.tensor([COLORS[item.color] for item in items]) / 255.0
        alpha = _coverage(paths, shapes, size)[:, None]
        clips[chosen] = torch.lerp(clips[chosen], colors[:, :, None, None, None].expand_as(clips[chosen]), alpha)
    return clips.mul_(2).sub_(1)


def _coverage(paths: torch.Tensor, shapes: torch.Tensor, size: int) -> torch.Tensor:
    """How much of each pixel a shape covers: ``(objects, frames, size, size)`` in [0, 1]."""
    grid = (torch.arange(size) + 0.5) / size
    x = (grid[None, None, None, :] - paths[:, :, 0, None, None]) / paths[:, :, 2, None, None]
    y = (grid[None, None, :, None] - paths[:, :, 1, None, None]) / paths[:, :, 2, None, None]
    distance = torch.empty(*paths.shape[:2], size, size)
    for index, shape in enumerate(SHAPES):
        chosen = shapes == index
        if chosen.any():
            distance[chosen] = _DISTANCES[shape](x[chosen], y[chosen])
    pixel = 1.0 / (size * paths[:, :, 2, None, None])
    return (0.5 - distance / pixel).clamp_(0, 1)


def _circle(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.hypot(x, y) - 1


def _square(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.88


def _triangle(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.maximum(x.abs() * 0.866 - (y + 1.0) * 0.5, y - 0.75)


def _star(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    angle = torch.atan2(x, -y)
    fold = torch.remainder(angle + torch.pi / 5, 2 * torch.pi / 5) - torch.pi / 5
    return torch.hypot(x, y) * (torch.cos(fold) + 1.15 * torch.sin(fold.abs())) - 1.1


_DISTANCES = {"circle": _circle, "square": _square, "triangle": _triangle, "star": _star}


def _background(scene: Scene, size: int) -> torch.Tensor:
    """``(3, size, size)`` in [0, 1], always dim and nearly colourless so that shapes stand out."""
    grid = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    shift = (scene.seed % 997) / 997
    match scene.background:
        case "black":
            gray = torch.zeros(size, size)
        case "gray":
            gray = torch.full((size, size), 0.4)
        case "striped":
            gray = 0.3 + 0.13 * torch.tanh(3 * torch.sin(2 * torch.pi * (4 * x + shift)))
        case "checkered":
            pattern = torch.sin(2 * torch.pi * (2 * x + shift)) * torch.sin(2 * torch.pi * (2 * y + shift))
            gray = 0.3 + 0.13 * torch.tanh(6 * pattern)
        case "noisy":
            noise = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(scene.seed))
            gray = 0.15 + 0.35 * torch.nn.functional.interpolate(noise, (size, size), mode="bicubic")[0, 0].clamp(0, 1)
        case _:
            raise ValueError(f"unknown background {scene.background!r}")
    return gray.expand(3, -1, -1)

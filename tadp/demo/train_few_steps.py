"""The student of few steps: learns, from each kept state of a recorded sampling, the straight way to the next."""

import copy
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel

from tadp.demo.checkpoint import load_state, save_state
from tadp.demo.progress import TrainingLog
from tadp.demo.render import SIZE
from tadp.demo.train_transformer import (
    PAD_LENGTHS,
    Phase,
    encode_captions,
    make_optimizers,
    rotary_stride,
    set_rates,
    short_sequence_attention,
)
from tadp.demo.trajectories import Teacher, lessons

EMA_DECAY = 0.99
CHECKPOINT_EVERY = 25
LOG_EVERY = 5


def train_few_steps(
    directory: Path, phases: tuple[Phase, ...], teacher: Teacher, start: WanTransformer3DModel, device: torch.device
) -> WanTransformer3DModel:
    """Train a copy of `start` through all phases, or resume; returns the averaged (EMA) student.

    Raises:
        FileNotFoundError: where no trajectories of a phase's size were recorded.
    """
    torch.manual_seed(2)
    student = copy.deepcopy(start).float().train().requires_grad_(True)
    average = copy.deepcopy(student).requires_grad_(False)
    modules = {"student": student, "average": average}
    optimizers = make_optimizers(student, student)
    total = sum(phase.steps for phase in phases)
    progress = load_state(directory / "student", modules, optimizers) or {"step": 0}
    student.compile_repeated_blocks(fullgraph=True, dynamic=False)
    done = int(progress["step"])
    with TrainingLog(directory / "few-steps.jsonl", "few steps", total, done, every=LOG_EVERY) as log:
        first = 0
        for phase in phases:
            batches = lessons(directory, phase.size, phase.batch, seed=done)
            for step in range(max(done, first), first + phase.steps):
                set_rates(optimizers, phase, step, first)
                loss = _train_step(student, teacher, next(batches), phase.size, step, device)
                for optimizer in optimizers.values():
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                decay = min(EMA_DECAY, (1 + step) / (10 + step))
                torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - decay)
                log.add(step + 1, loss=loss, size=phase.size, rate=optimizers["adamw"].param_groups[0]["lr"])
                if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == total:
                    save_state(directory / "student", modules, optimizers, {"step": step + 1})
            first += phase.steps
    return average.eval()


def load_average(directory: Path, like: WanTransformer3DModel) -> WanTransformer3DModel:
    """The averaged student of the newest checkpoint, for looking at a training that is under way.

    Raises:
        FileNotFoundError: where there is no checkpoint yet.
    """
    average = copy.deepcopy(like).float()
    if load_state(directory / "student", {"average": average}, {}) is None:
        raise FileNotFoundError(f"no checkpoint in {directory / 'student'}")
    return average.eval()


def _train_step(
    student: WanTransformer3DModel,
    teacher: Teacher,
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]],
    size: int,
    step: int,
    device: torch.device,
) -> float:
    """Gradients of one batch; returns its loss."""
    state, level, way, captions = batch
    length = random.Random(step).choice(PAD_LENGTHS)
    small = size < SIZE and device.type == "cpu"
    with (
        torch.autocast(device.type, torch.bfloat16),
        rotary_stride(student, SIZE // size),
        short_sequence_attention(enabled=small),
    ):
        with torch.no_grad():
            text = encode_captions(teacher.tokenizer, teacher.text_encoder, captions, length)
        predicted = student(state.to(device), level.to(device) * 1000, text, return_dict=False)[0]
    loss = F.mse_loss(predicted.float(), way.to(device))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    return loss.item()

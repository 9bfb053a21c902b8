"""The sampler of rCM as a scheduler of diffusers: one to four steps, without guidance.

Source: Zheng et al., "Large Scale Diffusion Distillation via Score-Regularized Continuous-Time Consistency", arXiv
2510.08431, and the sampling loop of its released code.
"""

import hashlib
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from tadp.sampling.schedule import MID_TIMES, SIGMA_MAX, rcm_sigmas

_TIME_ROUNDING = 2.0**-8
"""How much rounding to bfloat16 changes a timestep, relatively: pipelines may hand them back in the model's type."""


@dataclass
class RCMSchedulerOutput(BaseOutput):
    """What a step gives.

    Attributes:
        prev_sample: the next state, shaped and typed as the sample.
        pred_original_sample: clean data as this step predicts it.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class RCMScheduler(SchedulerMixin, ConfigMixin):
    """Predicts clean data in every step and mixes it with noise for the next one.

    For networks that predict rectified flow's velocity ``e - x_0``, distilled to few steps, without guidance. Steps are
    at ``arctan(sigma_max)`` and the first ``n - 1`` of `mid_times` (:func:`tadp.sampling.schedule.rcm_sigmas`).

    With v the velocity, s the level of a step and s' that of the next, ``x_0 = x - s v`` and

    * stochastic: ``x' = (1 - s') x_0 + s' z`` with fresh noise z;
    * otherwise: ``x' = (1 - s') x_0 + s' e`` with the step's own noise ``e = x + (1 - s) v``, Euler's step.

    The first sample is noise of variance 1, as pipelines for flow models draw it. rCM's is ``s`` times that, and this
    is what the first step counts with.

    Args:
        num_train_timesteps: what levels are multiplied by to make timesteps.
        sigma_max: noise over signal at the start.
        mid_times: TrigFlow times, in radians, of the steps after the first.
        stochastic: whether noise is drawn anew in every step.

    Raises:
        ValueError: for times that do not fall.
    """

    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        sigma_max: float = SIGMA_MAX,
        mid_times: tuple[float, ...] | list[float] = MID_TIMES,
        stochastic: bool = True,
    ) -> None:
        self._begin_index: int | None = None
        self.set_timesteps(len(mid_times) + 1)

    @property
    def begin_index(self) -> int | None:
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        return self._step_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Name the step that sampling starts with, so that timesteps need not be looked up."""
        self._begin_index = begin_index

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Lay out the steps: sets `timesteps` (float32, on `device`) and `sigmas` (float64, with a last 0).

        Raises:
            ValueError: for fewer than one step or more than there are times for, which are four by default.
        """
        levels = rcm_sigmas(num_inference_steps, self.config.sigma_max, tuple(self.config.mid_times))
        self.num_inference_steps = num_inference_steps
        self.sigmas = torch.tensor(levels, dtype=torch.float64)
        self.timesteps = (self.sigmas[:-1] * self.config.num_train_timesteps).to(device=device, dtype=torch.float32)
        self._begin_index = None
        self._step_index: int | None = None
        self._noise: list[torch.Generator] | None = None

    def scale_model_input(self, sample: torch.Tensor, timestep: float | torch.Tensor | None = None) -> torch.Tensor:
        """The sample as the network should see it: in the first step times its level, later as it is."""
        index = self._index(timestep) if self._step_index is None else self._step_index
        return sample * self.sigmas[0].item() if index == 0 else sample

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> RCMSchedulerOutput | tuple[torch.Tensor]:
        """Go one step on, in float64.

        Args:
            model_output: velocity, shaped as the sample.
            timestep: of this step.
            sample: ``(batch, ...)``, in any floating type, which the result has too.
            generator: of fresh noise, or one a sample. WanPipeline hands none on. Without one, each sample draws from a
                generator that its first state seeds: equal noise makes equal clips, whatever else is in the batch.
            return_dict: False for a tuple of the next state alone.

        Raises:
            ValueError: for a timestep that is not one of the schedule's.
        """
        if self._step_index is None:
            self._step_index = self._index(timestep)
        level, following = self.sigmas[self._step_index].item(), self.sigmas[self._step_index + 1].item()
        if self.config.stochastic and generator is None and self._noise is None:
            self._noise = [_generator_of(state) for state in sample]
        state, velocity = sample.double(), model_output.double()
        if self._step_index == 0:
            state = state * level
        clean = state - level * velocity
        if following == 0:
            state = clean
        elif self.config.stochastic:
            chosen = self._noise if generator is None else generator
            fresh = randn_tensor(sample.shape, generator=chosen, device=sample.device, dtype=torch.float32)
            state = (1 - following) * clean + following * fresh.double()
        else:
            state = (1 - following) * clean + following * (state + (1 - level) * velocity)
        self._step_index += 1
        state, clean = state.to(sample.dtype), clean.to(sample.dtype)
        return RCMSchedulerOutput(prev_sample=state, pred_original_sample=clean) if return_dict else (state,)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """``(1 - s) x_0 + s e`` at the levels of some timesteps, ``(batch,)``; any timestep will do."""
        levels = (timesteps.to(original_samples.device).double() / self.config.num_train_timesteps).reshape(
            -1, *[1] * (original_samples.ndim - 1)
        )
        mixed = (1 - levels) * original_samples.double() + levels * noise.double()
        return mixed.to(original_samples.dtype)

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def _index(self, timestep: float | torch.Tensor | None) -> int:
        """The step to start with: the one that was named, or the one of a timestep."""
        if self._begin_index is not None:
            return self._begin_index
        if timestep is None:
            raise ValueError("give a timestep, or name the first step with set_begin_index")
        wanted = float(timestep)
        distance = (self.timesteps.double().cpu() - wanted).abs()
        nearest = int(distance.argmin())
        if distance[nearest] > _TIME_ROUNDING * wanted:
            raise ValueError(f"{wanted} is not one of the schedule's timesteps, {self.timesteps.tolist()}")
        return nearest


def _generator_of(state: torch.Tensor) -> torch.Generator:
    digest = hashlib.sha256(state.float().cpu().contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

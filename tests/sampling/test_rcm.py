"""The scheduler against rCM's loop written out in TrigFlow's coordinates and float64."""

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from hypothesis import given
from hypothesis import strategies as st

from tadp.demo.tiny import tiny_of
from tadp.sampling import RCMScheduler

Network = Callable[[torch.Tensor, float], torch.Tensor]
SHAPE = (2, 3, 2, 4, 4)


def network(state: torch.Tensor, timestep: float) -> torch.Tensor:
    """A velocity that depends on everything and is the same function in every precision."""
    return torch.tanh(state * (1 + timestep / 1000)) + 0.1 * state.roll(1, dims=-1)


def generators(seed: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + index) for index in range(SHAPE[0])]


def trigflow(noise: torch.Tensor, steps: int, velocity: Network, seed: int | None) -> torch.Tensor:
    """rCM with TrigFlow's ``y = cos(t) x_0 + sin(t) z``; the network is still one of rectified flow. An ODE step
    without a seed."""
    times = [math.atan(80.0), 1.5, 1.4, 1.0][:steps] + [0.0]
    drawn = None if seed is None else generators(seed)
    state = math.sin(times[0]) * noise.double()
    for index, (time, following) in enumerate(itertools.pairwise(times)):
        sine, cosine = math.sin(time), math.cos(time)
        # The pipelines hand unit noise to the network in the first step.
        seen = noise.double() if index == 0 else state / (sine + cosine)
        flow = velocity(seen, 1000 * sine / (sine + cosine))
        clean = (state - sine * flow) / (sine + cosine)
        own = clean + flow
        if following > 0 and drawn is not None:
            own = torch.cat([torch.randn(1, *SHAPE[1:], generator=each) for each in drawn]).double()
        state = math.cos(following) * clean + math.sin(following) * own
    return state


def sample(
    scheduler: RCMScheduler, noise: torch.Tensor, steps: int, velocity: Network, seed: int | None
) -> torch.Tensor:
    drawn = None if seed is None else generators(seed)
    scheduler.set_timesteps(steps)
    state = noise
    for timestep, level in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        state = scheduler.step(velocity(state, 1000 * level.item()), timestep, state, generator=drawn).prev_sample
    return state


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [None, 5])
def test_agrees_with_trigflow(steps: int, seed: int | None) -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = sample(RCMScheduler(stochastic=seed is not None), noise, steps, network, seed)
    # Both round some tens of times to 2**-53 of values below ten; the network grows an error at most threefold a step.
    torch.testing.assert_close(ours, trigflow(noise, steps, network, seed), rtol=0, atol=100 * 10 * 3**4 * 2.0**-53)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_rounds_once(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    state, velocity = torch.randn(2, *SHAPE, generator=generator).to(dtype)
    results = []
    for kind in (dtype, torch.float64):
        scheduler = RCMScheduler(stochastic=False)
        scheduler.set_begin_index(1)
        results.append(scheduler.step(velocity.to(kind), 0.0, state.to(kind)).prev_sample)
    assert results[0].dtype == dtype
    assert torch.equal(results[0], results[1].to(dtype))


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_without_fresh_noise_it_takes_euler_steps(steps: int) -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    ours = RCMScheduler(stochastic=False)
    ours.set_timesteps(steps)
    euler = FlowMatchEulerDiscreteScheduler()
    euler.set_timesteps(sigmas=ours.sigmas[:-1].tolist())
    state, theirs = noise, noise * ours.sigmas[0].item()
    for index, (timestep, their_timestep) in enumerate(zip(ours.timesteps, euler.timesteps, strict=True)):
        velocity = network(state if index else theirs, timestep.item())
        state = ours.step(velocity, timestep, state).prev_sample
        theirs = euler.step(network(theirs, timestep.item()), their_timestep, theirs).prev_sample
    # Euler keeps its levels in float32.
    torch.testing.assert_close(state, theirs, rtol=0, atol=4 * 10 * 3**4 * 2.0**-24)


@given(steps=st.integers(1, 4), stochastic=st.booleans(), seed=st.integers(0, 1000))
def test_a_network_that_knows_the_clip_gives_the_clip(steps: int, stochastic: bool, seed: int) -> None:
    clean, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scheduler = RCMScheduler(stochastic=stochastic)
    scheduler.set_timesteps(steps)
    state = noise
    for index, timestep in enumerate(scheduler.timesteps):
        level = scheduler.sigmas[index].item()
        velocity = ((state * level if index == 0 else state) - clean) / level
        output = scheduler.step(velocity, timestep, state, generator=generators(seed))
        torch.testing.assert_close(output.pred_original_sample, clean, rtol=0, atol=1e-13)
        state = output.prev_sample
    torch.testing.assert_close(state, clean, rtol=0, atol=1e-13)


def test_fresh_noise_is_as_strong_as_the_level_says() -> None:
    scheduler = RCMScheduler()
    scheduler.set_timesteps(4)
    sample_ = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
    velocity = sample_.clone()  # so that clean data is exactly nothing, and the next state only noise
    state = scheduler.step(velocity, scheduler.timesteps[0], sample_).prev_sample
    level = scheduler.sigmas[1].item()
    # The estimate of a standard deviation from n values is off by 1 / sqrt(2 n); five times that.
    assert state.std().item() == pytest.approx(level, rel=5 / math.sqrt(2 * 200_000))
    correlation = torch.corrcoef(torch.cat([state, sample_]))[0, 1].item()
    assert abs(correlation) < 5 / math.sqrt(200_000)


def test_without_a_generator_equal_noise_gives_equal_clips_whatever_else_is_in_the_batch() -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    together = sample(RCMScheduler(), noise, 4, network, None)
    assert torch.equal(together, sample(RCMScheduler(), noise, 4, network, None))
    for index in range(SHAPE[0]):
        assert torch.equal(
            together[index : index + 1], sample(RCMScheduler(), noise[index : index + 1], 4, network, None)
        )
    assert not torch.equal(together[0], together[1])


def test_timesteps_are_levels_of_a_thousand() -> None:
    scheduler = RCMScheduler()
    scheduler.set_timesteps(3)
    assert len(scheduler.timesteps) == 3
    assert scheduler.timesteps.dtype == torch.float32
    assert scheduler.sigmas.dtype == torch.float64
    assert torch.equal(scheduler.timesteps, (scheduler.sigmas[:-1] * 1000).float())
    assert len(scheduler) == 1000


def test_more_steps_than_times_are_refused_and_more_times_allow_them() -> None:
    with pytest.raises(ValueError, match="1 to 4 steps, not for 20"):
        RCMScheduler().set_timesteps(20)
    longer = RCMScheduler(mid_times=[1.5, 1.4, 1.2, 1.0, 0.5])
    longer.set_timesteps(6)
    assert len(longer.timesteps) == 6


def test_a_timestep_that_is_none_of_the_schedules_is_refused() -> None:
    scheduler = RCMScheduler()
    with pytest.raises(ValueError, match="not one of the schedule's timesteps"):
        scheduler.step(torch.zeros(1, 2), 500.0, torch.zeros(1, 2))


@pytest.mark.parametrize("index", range(4))
def test_sampling_may_start_later_also_from_a_rounded_timestep(index: int) -> None:
    clean, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scheduler = RCMScheduler(stochastic=False)
    state = scheduler.add_noise(clean, noise, scheduler.timesteps[index].expand(SHAPE[0]))
    output = scheduler.step(noise - clean, scheduler.timesteps[index].bfloat16(), state)
    assert scheduler.step_index == index + 1
    if index > 0:  # the first step takes what it is given for noise
        # Timesteps are float32.
        torch.testing.assert_close(output.pred_original_sample, clean, rtol=0, atol=10 * 2.0**-24)


def test_only_the_first_input_is_scaled() -> None:
    scheduler = RCMScheduler(stochastic=False)
    scheduler.set_timesteps(2)
    state = torch.ones(1, 2, dtype=torch.float64)
    first = scheduler.scale_model_input(state, scheduler.timesteps[0])
    assert first.tolist() == [[80 / 81, 80 / 81]]
    scheduler.step(state, scheduler.timesteps[0], state)
    assert torch.equal(scheduler.scale_model_input(state, scheduler.timesteps[1]), state)


def test_its_configuration_survives_saving(tmp_path: Path) -> None:
    RCMScheduler(sigma_max=120.0, mid_times=(1.4, 0.9), stochastic=False).save_pretrained(tmp_path)
    loaded = RCMScheduler.from_pretrained(tmp_path)
    assert loaded.config.sigma_max == 120.0
    assert list(loaded.config.mid_times) == [1.4, 0.9]
    assert not loaded.config.stochastic
    assert len(loaded.timesteps) == 3


@pytest.fixture
def pipeline() -> WanPipeline:
    """A tiny Wan without text encoder and autoencoder, on prompt embeddings and latents."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel.from_config(tiny_of("WanTransformer3DModel").config).eval()
    made = WanPipeline(tokenizer=None, text_encoder=None, vae=None, transformer=transformer, scheduler=RCMScheduler())
    made.set_progress_bar_config(disable=True)
    return made


def generate(pipeline: WanPipeline, seed: int, steps: int = 4) -> torch.Tensor:
    embeddings = torch.randn(1, 12, 48, generator=torch.Generator().manual_seed(9))
    return pipeline(
        prompt_embeds=embeddings,
        height=64,
        width=64,
        num_frames=9,
        num_inference_steps=steps,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
    ).frames


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("steps", [1, 4])
def test_wan_pipeline_samples_as_the_loop_does(pipeline: WanPipeline, stochastic: bool, steps: int) -> None:
    pipeline.scheduler = RCMScheduler(stochastic=stochastic)
    embeddings = torch.randn(1, 12, 48, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    calls = 0

    def velocity(state: torch.Tensor, timestep: float) -> torch.Tensor:
        nonlocal calls
        calls += 1
        with torch.no_grad():
            return pipeline.transformer(state, torch.tensor([timestep]), embeddings, return_dict=False)[0]

    expected = sample(RCMScheduler(stochastic=stochastic), noise, steps, velocity, None)
    assert calls == steps
    assert torch.equal(generate(pipeline, seed=3, steps=steps), expected)


def test_wan_pipeline_gives_the_same_clip_for_the_same_generator(pipeline: WanPipeline) -> None:
    first = generate(pipeline, seed=3)
    torch.manual_seed(1)
    assert torch.equal(generate(pipeline, seed=3), first)
    assert not torch.equal(generate(pipeline, seed=4), first)


def test_wan_pipeline_saves_and_loads_it(pipeline: WanPipeline, tmp_path: Path) -> None:
    expected = generate(pipeline, seed=3, steps=2)
    pipeline.save_pretrained(tmp_path)
    loaded = WanPipeline.from_pretrained(tmp_path, tokenizer=None, text_encoder=None, vae=None)
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded.scheduler, RCMScheduler)
    assert torch.equal(generate(loaded, seed=3, steps=2), expected)


def test_a_copy_goes_its_own_way() -> None:
    scheduler = RCMScheduler(stochastic=False)
    other = copy.deepcopy(scheduler)
    scheduler.step(torch.zeros(1, 2), scheduler.timesteps[0], torch.zeros(1, 2))
    assert (scheduler.step_index, other.step_index) == (1, None)

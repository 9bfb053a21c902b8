"""The times of rCM, as levels of rectified flow."""

import math

SIGMA_MAX = 80.0
"""Where sampling starts: noise over signal. At 80 the signal is 1.2 % of the mixture."""
MID_TIMES = (1.5, 1.4, 1.0)
"""TrigFlow times, in radians, between the first and clean data, as rCM's authors and TurboDiffusion release them."""


def rcm_sigmas(num_steps: int, sigma_max: float = SIGMA_MAX, mid_times: tuple[float, ...] = MID_TIMES) -> list[float]:
    """Levels of rectified flow that rCM visits, from noise to data.

    TrigFlow mixes ``cos(t) x_0 + sin(t) e`` (Lu and Song, arXiv 2410.11081, section 3); divided by ``cos(t) + sin(t)``
    this is rectified flow's ``(1 - s) x_0 + s e`` at ``s = sin(t) / (sin(t) + cos(t))``. The times are
    ``arctan(sigma_max)`` and the first ``num_steps - 1`` of `mid_times` (Zheng et al., "Large Scale Diffusion
    Distillation via Score-Regularized Continuous-Time Consistency", arXiv 2510.08431, and its code; TurboDiffusion,
    arXiv 2512.16093, takes them over).

    Args:
        num_steps: forwards of the network.
        sigma_max: noise over signal at the start, positive.
        mid_times: times in radians, falling, each between 0 and ``arctan(sigma_max)``.

    Returns:
        ``num_steps + 1`` levels, falling, the last 0.

    Raises:
        ValueError: for fewer than one step, more steps than there are times for, or times that do not fall.
    """
    times = (math.atan(sigma_max), *mid_times)
    if not 1 <= num_steps <= len(times):
        raise ValueError(f"rCM has times for 1 to {len(times)} steps, not for {num_steps}")
    if sigma_max <= 0 or any(late >= early for early, late in zip(times, (*mid_times, 0.0), strict=True)):
        raise ValueError(
            f"the times of rCM must fall from arctan(sigma_max) to 0, but sigma_max {sigma_max} and the mid times "
            f"{list(mid_times)} give {[round(time, 4) for time in times]}"
        )
    return [math.sin(time) / (math.sin(time) + math.cos(time)) for time in times[:num_steps]] + [0.0]

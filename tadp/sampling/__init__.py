"""Samplers that diffusers lacks, as schedulers of diffusers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tadp.sampling.rcm import RCMScheduler

__all__ = ["RCMScheduler"]


def __getattr__(name: str) -> Any:
    """Import the scheduler, and diffusers with it, when it is first asked for: the schedule alone needs neither."""
    if name == "RCMScheduler":
        from tadp.sampling.rcm import RCMScheduler

        return RCMScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

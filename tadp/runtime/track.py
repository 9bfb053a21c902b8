"""Tracks: values that are foretold in some steps, and when the error that this adds up to calls for a computed one."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import torch

from tadp.precision import Reuse
from tadp.runtime.extrapolation import Comparison, Foretold, Kept, compare, foretell, sums

CLEAREST = 0.02
"""Share of signal below which a clip is all noise: there the weight of an error grows no more."""


def weight(noise: float, gap: float) -> float:
    """What a squared relative error of a prediction counts in the finished clip.

    A step from noise s to s - gap changes the clip by gap times the prediction. An error stays in the clip as it is,
    and it leads the steps that follow astray, the more the less signal is there: by s / (1 - s), as the clip that the
    model sees is noise and signal in that ratio. In the embedded model this tells the steps whose reuse is cheap, from
    noise 0.8 to 0.25, from those before and from the last but one, whose length makes it dear.

    Args:
        noise: in [0, 1].
        gap: length of the step in noise; of the step before, as the next noise is not known.
    """
    return gap**2 * (1 + (noise / max(1 - noise, CLEAREST)) ** 2)


@dataclass
class Track:
    """One value over the steps of a generation: the last two that were computed, and how far the next may be foretold.

    Attributes:
        kept: the newest first.
        seen: how well those before the newest had foretold it; None until it is read from the device.
        unread: what `seen` will be read from.
        since: steps in a row in which the value was foretold.
        error: what they come to, squared and weighed.
        step: in which the value was last computed.
    """

    kept: deque[Kept] = field(default_factory=lambda: deque(maxlen=2))
    seen: Comparison | None = None
    unread: tuple[torch.Tensor, tuple[Kept, ...], float] | None = None
    since: int = 0
    error: float = 0.0
    step: int = 0

    def add(self, step: int, noise: float, values: tuple[torch.Tensor, ...], size: torch.Tensor) -> None:
        """Keep a computed value, compared with those before it; `size` is what errors are relative to, squared."""
        before = tuple(self.kept)
        fits = before and all(a.shape == b.shape for a, b in zip(before[0].values, values, strict=True))
        if before and not fits:
            self.kept.clear()
        self.unread = (sums(values, before, noise, size), before, noise) if fits else None
        self.seen = None
        self.kept.appendleft(Kept(noise, values))
        self.since, self.error, self.step = 0, 0.0, step

    def compared(self) -> Comparison | None:
        """How well the newest value was foretold; None where nothing was kept before it. Waits for the device once."""
        if self.unread is not None:
            measured, before, at = self.unread
            self.seen, self.unread = compare(measured.tolist(), before, at), None
        return self.seen

    def may_be(self, error: float, reuse: Reuse) -> bool:
        """Whether a value with a foretold error, squared and weighed, is good enough."""
        within = self.error + error <= reuse.bound**2  # false for errors that are no numbers
        return within and reuse.bound > 0 and self.since < reuse.longest

    def spend(self, error: float) -> None:
        """Count a step in which the value is foretold, with this error, squared and weighed."""
        self.since += 1
        self.error += error

    @property
    def bytes(self) -> int:
        return sum(value.nbytes for one in self.kept for value in one.values)


def foretell_together(tracks: Sequence[Track], noise: float, gap: float, reuse: Reuse) -> Foretold | None:
    """How values that go together are foretold at a noise, all alike, with a weighed error; None: compute them.

    Guidance amplifies the difference of its branches. Errors that both make alike cancel in it, so both are foretold in
    the same steps and by the same weights.

    Args:
        tracks: of one value in each guidance branch; those of branches that run no more do not count.
        noise: to foretell at.
        gap: in noise since the step before.
        reuse: the leave to do so.
    """
    latest = max(track.step for track in tracks)
    tracks = [track for track in tracks if track.step == latest]
    seen = [found for track in tracks if (found := track.compared()) is not None]
    if len(seen) < len(tracks) or len({(found.along, found.gaps) for found in seen}) > 1:
        return None
    means = (fmean(getattr(found, name) for found in seen) for name in ("missed", "shared", "step"))
    both = Comparison(seen[0].along, seen[0].gaps, *means)
    foretold = foretell(tuple(tracks[0].kept), both, noise, reuse.extrapolation)
    weighed = replace(foretold, error=foretold.error * weight(noise, gap))
    return weighed if all(track.may_be(weighed.error, reuse) for track in tracks) else None

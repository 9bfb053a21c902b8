"""Reuse: blocks that add what they added in earlier steps instead of running (level 0).

Neighbouring blocks that may be reused make a span, of which one residual is kept: what the last one returns less what
the first one was given. When a span is reused, its blocks hand their streams through and the last one adds the
residual. Spans are found while the model runs: a block belongs to that of the block before it if it is given the very
tensors that the other returned. Where the model does something in between, in place or not, a new span begins. A block
that writes into what it is given is never reused, nor one whose results the model writes into: what it added is lost.

Whether a span is reused is decided before each forward from what the last runs measured, see
`tadp.runtime.extrapolation`.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tadp.errors import PrecisionFallbackWarning
from tadp.precision import Plan, Reuse
from tadp.runtime.clock import Tick
from tadp.runtime.extrapolation import Foretold
from tadp.runtime.streams import Streams, find_streams, outputs_of, version_of
from tadp.runtime.track import Track, foretell_together


class ReuseFailed(Exception):
    """A span could not be reused after all; the forward has to be repeated with every block running."""


@dataclass
class _Span:
    """A span that is being run: its blocks, what the first was given, what the last returned and its versions."""

    blocks: list[str]
    given: tuple[torch.Tensor, ...]
    returned: tuple[torch.Tensor, ...]
    versions: tuple[int | None, ...]


@dataclass(frozen=True)
class _Reused:
    """What a block does in a forward in which its span is reused."""

    streams: Streams
    first: bool
    last: bool
    span: tuple[str, ...]
    foretold: Foretold


class ResidualStore:
    """Runs or reuses the blocks of a model, keeps their residuals, and decides from what they were."""

    def __init__(self, limit: Callable[[], int | None] = lambda: None) -> None:
        """`limit` tells how many bytes may be kept; None for any number."""
        self._limit = limit
        self._tracks: dict[tuple[str, tuple[str, ...]], Track] = {}
        self._streams: dict[str, Streams] = {}
        self._refused: dict[str, str] = {}
        self._leave: Mapping[str, Reuse] = {}
        self._now: dict[str, _Reused] = {}
        self._entered: tuple[torch.Tensor, ...] = ()
        self._running: _Span | None = None
        self._tick = Tick(0, 0, "", None)
        self._noise = 1.0
        self._step: tuple[int, dict[tuple[str, ...], Foretold]] = 0, {}
        self._peak = 0

    @property
    def bytes(self) -> int:
        """Of the residuals that are kept now."""
        return sum(track.bytes for track in self._tracks.values())

    @property
    def peak(self) -> int:
        """The most bytes that were kept at a time since the last `restart`."""
        return self._peak

    @property
    def refused(self) -> Mapping[str, str]:
        """Blocks that cannot be reused, each with the reason."""
        return self._refused

    def clear(self) -> None:
        """Let go of all residuals."""
        self._tracks, self._now, self._running, self._entered, self._step = {}, {}, None, (), (0, {})

    def restart(self) -> None:
        """Let go of all residuals, and count memory anew."""
        self.clear()
        self._peak = 0

    def drop(self, branch: str) -> None:
        """Let go of the residuals of one guidance branch."""
        self._tracks = {key: track for key, track in self._tracks.items() if key[0] != branch}

    def decide(self, plan: Plan, tick: Tick, noise: float, gap: float, measuring: bool) -> frozenset[str]:
        """Decide which blocks the next forward reuses. What the first branch of a step reuses, all of them do.

        Args:
            plan: whose recipes say what may be reused.
            tick: of the forward.
            noise: in [0, 1].
            gap: in noise since the step before.
            measuring: whether blocks are to be measured, and hence run.
        """
        self._leave = {block: recipe.reuse for block, recipe in plan if recipe.reuse is not None}
        self._tick, self._noise, self._running, self._now = tick, noise, None, {}
        if not self._leave:  # nothing that is kept now will be used
            self._tracks = {}
        if measuring or not self._leave:
            self._step = 0, {}
        elif self._step[0] != tick.step:
            self._step = tick.step, self._foretell(noise, gap)
        for span, foretold in self._step[1].items():
            track = self._tracks.get((tick.branch, span))
            steps = [other.step for (_, own), other in self._tracks.items() if own == span]
            if track is None or track.step < max(steps):  # this branch has not run with the others
                continue
            track.spend(foretold.error)
            for block in span:
                ends = block == span[0], block == span[-1]
                self._now[block] = _Reused(self._streams[block], *ends, span, foretold)
        return frozenset(self._now)

    def _foretell(self, noise: float, gap: float) -> dict[tuple[str, ...], Foretold]:
        """The spans that are reused in a step, whichever branch runs."""
        by_span: dict[tuple[str, ...], list[Track]] = {}
        for (_, span), track in self._tracks.items():
            by_span.setdefault(span, []).append(track)
        found = {}
        for span, tracks in by_span.items():
            if all(block in self._leave for block in span):
                reuse = min((self._leave[block] for block in span), key=lambda each: each.bound)
                foretold = foretell_together(tracks, noise, gap, reuse)
                if foretold is not None:
                    found[span] = foretold
        return found

    def call(self, block: str, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a block, or do what reusing it comes to."""
        if not self._leave:
            return run(*args, **kwargs)
        reused = self._now.get(block)
        if reused is not None:
            try:
                return self._reuse(reused, args, kwargs)
            except (LookupError, RuntimeError) as error:
                self._refuse(block, f"it is called differently in another step ({error})")
                raise ReuseFailed from error
        if block not in self._leave or block in self._refused:
            self._finish()
            return run(*args, **kwargs)
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        before = [version_of(value) for value in given]
        result = run(*args, **kwargs)
        outputs = outputs_of(result) or ()
        if before != [version_of(value) for value in given] or any(one is other for one in given for other in outputs):
            self._finish()
            self._refuse(block, "it writes into what it is given")
            return result
        self._follow(block, args, kwargs, result)
        return result

    def finish(self) -> None:
        """The forward is over: keep the residual of the span that was open."""
        self._finish()
        self._entered = ()

    def _reuse(self, reused: _Reused, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        streams = reused.streams.given(args, kwargs)
        if reused.first:
            self._entered = streams
        if not reused.last:
            return reused.streams.returned(streams)
        track = self._tracks[self._tick.branch, reused.span]
        residuals = reused.foretold.of(tuple(track.kept))
        after = [before + residual for before, residual in zip(self._entered, residuals, strict=True)]
        return reused.streams.returned(after)

    def _follow(self, block: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: object) -> None:
        """Take a block that has run into the span before it, or begin another one."""
        streams = self._streams.get(block)
        if streams is None:
            found = find_streams(args, kwargs, result)
            if isinstance(found, str):
                self._finish()
                self._refuse(block, found)
                return
            streams = self._streams[block] = found
        outputs = outputs_of(result)
        assert outputs is not None
        try:
            given = streams.given(args, kwargs)
        except LookupError as error:
            self._finish()
            self._refuse(block, f"it is called differently in another step ({error})")
            return
        running = self._running
        versions = tuple(map(version_of, outputs))
        if running is not None and _continues(running, given) and self._alike(running.blocks[-1], block):
            running.blocks.append(block)
            running.returned, running.versions = outputs, versions
        else:
            self._finish()
            self._running = _Span([block], given, outputs, versions)

    def _alike(self, one: str, other: str) -> bool:
        """Whether two blocks may be reused on the same terms."""
        return self._leave.get(one) == self._leave.get(other)

    def _finish(self) -> None:
        """Keep the residual of the span that is open, if any."""
        span, self._running = self._running, None
        if span is None:
            return
        if span.versions != tuple(map(version_of, span.returned)):
            self._refuse(span.blocks[-1], "what it returns is written to before the next block")
            return
        key = self._tick.branch, tuple(span.blocks)
        track = self._tracks.get(key)
        if track is None:
            own = set(span.blocks)
            self._tracks = {
                other: found for other, found in self._tracks.items() if other[0] != key[0] or own.isdisjoint(other[1])
            }
            track = self._tracks[key] = Track()
        pairs = zip(span.returned, span.given, strict=True)
        size = torch.stack([torch.linalg.vector_norm(out, dtype=torch.float32) ** 2 for out in span.returned]).sum()
        track.add(self._tick.step, self._noise, tuple(out - before for out, before in pairs), size)
        kept = self.bytes
        if kept <= self._peak:
            return
        self._peak, limit = kept, self._limit()
        if limit is not None and kept > limit:
            del self._tracks[key]
            for block in span.blocks:
                self._refuse(block, f"its residuals would take more than the {limit:,} bytes that may be kept")

    def _refuse(self, block: str, reason: str) -> None:
        if block not in self._refused:
            self._refused[block] = reason
            warnings.warn(f"{block} is never reused: {reason}", PrecisionFallbackWarning, stacklevel=4)


def _continues(span: _Span, given: tuple[torch.Tensor, ...]) -> bool:
    """Whether a block is given the very tensors that the one before it returned, in the same order and unchanged."""
    pairs = zip(span.returned, given, strict=False)
    same = len(span.returned) == len(given) and all(one is other for one, other in pairs)
    return same and span.versions == tuple(map(version_of, given))

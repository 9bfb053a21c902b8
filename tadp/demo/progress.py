"""A progress bar and a JSON-lines log of a training stage."""

import json
import time
from pathlib import Path
from types import TracebackType

from tqdm import tqdm


class TrainingLog:
    """Averages what is added and writes one JSON line every `every` steps; lines after a resumed step are dropped."""

    def __init__(self, path: Path, name: str, steps: int, done: int, every: int = 25) -> None:
        self._every = every
        self._sums: dict[str, float] = {}
        self._count = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = (
            [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= done]
            if path.exists()
            else []
        )
        path.write_text("".join(f"{line}\n" for line in kept))
        self._spent = json.loads(kept[-1])["seconds"] if kept else 0.0
        self._started = time.monotonic()
        self._file = path.open("a")
        self._bar = tqdm(total=steps, initial=done, desc=name, unit="step", dynamic_ncols=True, mininterval=2)

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._bar.close()

    def add(self, step: int, **values: float) -> None:
        """Count one finished step with its measured values."""
        self._count += 1
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._bar.update()
        if step % self._every == 0:
            means = {key: round(total / self._count, 6) for key, total in self._sums.items()}
            seconds = round(self._spent + time.monotonic() - self._started, 1)
            self._file.write(json.dumps({"step": step, "seconds": seconds, **means}) + "\n")
            self._file.flush()
            self._bar.set_postfix(means)
            self._sums, self._count = {}, 0

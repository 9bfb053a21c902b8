"""What is kept of trials, so that an interrupted run goes on, and the tables made of it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.kernels.mutations.fault import Fault
from bench.kernels.mutations.trial import BROKEN, FOUND, SURVIVED, Outcome


class Results:
    """Outcomes by fault, written to a file of lines as each comes in; the last of a fault counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, dict[str, object]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self._rows[row["name"]] = row

    def of(self, name: str, digest: str, tests: str) -> Outcome | None:
        """The outcome, unless there is none or something it depends on has changed since.

        ``digest`` stands for the fault and its kernel, ``tests`` for the tests. What was found stays found when tests
        change: mostly they are added, because something else was not.
        """
        row = self._rows.get(name)
        if row is None or row["digest"] != digest or (row["outcome"] != FOUND and row["tests"] != tests):
            return None
        return Outcome(str(row["outcome"]), str(row["by"]), float(str(row["seconds"])))

    def add(self, name: str, digest: str, tests: str, outcome: Outcome) -> None:
        """Write an outcome down; arguments as for ``of``."""
        row = {"name": name, "digest": digest, "tests": tests, **outcome._asdict()}
        self._rows[name] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def table(outcomes: Sequence[tuple[Fault, Outcome]], title: str, key: Callable[[Fault], str]) -> str:
    """Faults by a key, as a table: how many were tried, found, survived or failed to build."""
    rows = [f"| {title} | faults | found | survived | build failed |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in sorted({key(fault) for fault, _ in outcomes}):
        rows.append(_row(name, [outcome for fault, outcome in outcomes if key(fault) == name]))
    rows.append(_row("all", [outcome for _, outcome in outcomes]))
    return "\n".join(rows)


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    counts = [sum(outcome.outcome == which for outcome in outcomes) for which in (FOUND, SURVIVED, BROKEN)]
    return f"| {name} | {len(outcomes)} | {' | '.join(map(str, counts))} |"


def summary(outcomes: Sequence[tuple[Fault, Outcome]]) -> str:
    """Tables by kind and by file, and every fault that was not found."""
    lines = [table(outcomes, "kind", lambda fault: fault.kind), "", table(outcomes, "file", lambda fault: fault.file)]
    missed = [(fault, outcome) for fault, outcome in outcomes if outcome.outcome != FOUND]
    for fault, outcome in missed:
        because = f" ({fault.why})" if fault.why else ""
        lines += ["", f"{outcome.outcome}: {fault.name} in {fault.file}{because}", f"  {fault.old!r} -> {fault.new!r}"]
        lines += [f"  {outcome.by}"] if outcome.by else []
    return "\n".join(lines)

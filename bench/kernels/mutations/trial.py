"""One trial: a fault is put in, its tests run, and what they say is read."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from bench.kernels.mutations.fault import Fault, Selection
from bench.kernels.mutations.tree import BuildError, Tree

FOUND, SURVIVED, BROKEN = "found", "survived", "build failed"

_SUMMARY = re.compile(r"^(FAILED|ERROR) (\S+)", re.MULTILINE)


class Outcome(NamedTuple):
    """What came of a trial.

    Attributes:
        outcome: ``FOUND``, ``SURVIVED`` or ``BROKEN``: the fault does not compile, or no test could begin.
        by: the test that found it, "time limit" or "crash"; for ``BROKEN`` the end of the message.
        seconds: how long build and tests took.
    """

    outcome: str
    by: str
    seconds: float


def run_tests(root: Path, tests: Selection, limit: float) -> Outcome:
    """Run tests until the first fails."""
    interpreted = Path(tests.file).name.startswith("interpreted_")
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"TRITON_INTERPRET": "1"} if interpreted else {}),
    }
    # The seed and the missing database make what hypothesis draws the same for every fault.
    fixed = ["--hypothesis-seed=0", "-p", "no:cacheprovider", "-x", "-q", "--durations=0", "--durations-min=1e9"]
    command = [sys.executable, "-m", "pytest", *fixed, tests.file]
    command += ["-k", tests.expression] if tests.expression else []
    start = perf_counter()
    # Of its own group: a test that hangs may hang in a process that it started.
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        out, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Outcome(FOUND, "time limit", perf_counter() - start)
    return _read(process.returncode, out.decode(errors="replace"), perf_counter() - start)


def _read(code: int, out: str, seconds: float) -> Outcome:
    if code == 0:
        return Outcome(SURVIVED, "", seconds)
    if code < 0:
        return Outcome(FOUND, f"crash: {signal.Signals(-code).name}", seconds)
    first = _SUMMARY.search(out)
    if code == 1 and first is not None and first[1] == "FAILED":
        return Outcome(FOUND, first[2].rpartition("::")[2], seconds)
    if code == 5:
        raise ValueError(f"no test was selected:\n{out[-1000:]}")
    # What fails before a test has begun, such as an import or a fixture that compiles, says nothing about the tests.
    return Outcome(BROKEN, out[-1500:], seconds)


def try_fault(tree: Tree, fault: Fault, limit: float) -> Outcome:
    """Put a fault into the tree, run its tests and set the tree back."""
    start = perf_counter()
    try:
        with tree.with_fault(fault):
            found = run_tests(tree.root, fault.tests, limit)
    except BuildError as error:
        return Outcome(BROKEN, str(error)[-1500:], perf_counter() - start)
    return found._replace(seconds=perf_counter() - start)

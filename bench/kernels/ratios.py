"""How many times as fast as its rivals is each candidate in a JSON file of pytest-benchmark? Printed for each group."""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.kernels.linear import BASE, RIVAL
from bench.record import record


def main() -> None:
    """Read the file named on the command line and print its table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path, help="what --benchmark-json wrote")
    content = json.loads(options.parse_args().file.read_text())
    record("medians, and times as fast as the rivals", ratios(content["benchmarks"]), None, date=content["datetime"])


def ratios(benchmarks: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """A row a candidate: its group, its median in milliseconds, and each rival's median in terms of it.

    A rival that its group lacks, because it was skipped or not selected, leaves its column empty there.
    """
    groups: dict[str, dict[str, float]] = {}
    for benchmark in benchmarks:
        medians = groups.setdefault(benchmark["group"], {})
        medians[benchmark["extra_info"]["candidate"]] = benchmark["stats"]["median"]
    return [
        {
            "group": group,
            "candidate": name,
            "ms": median * 1e3,
            **{f"against {rival}": medians[rival] / median if rival in medians else "" for rival in (BASE, RIVAL)},
        }
        for group, medians in groups.items()
        for name, median in medians.items()
    ]


if __name__ == "__main__":
    main()

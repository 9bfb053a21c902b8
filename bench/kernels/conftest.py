"""What pytest-benchmark writes beside its timings: the machine, versions and commit, as bench/record.py has them."""

from collections.abc import Mapping
from typing import Any

import torch

from bench.record import machine, versions


def pytest_benchmark_generate_machine_info() -> dict[str, object]:
    """In place of the plugin's own, which tells the name of the host."""
    return {**machine(), "versions": versions(), "tadp": torch.ops.tadp.cpu_isa()}


def pytest_benchmark_update_commit_info(commit_info: dict[str, object]) -> None:
    """Without the name of the directory, which may be anything."""
    commit_info.pop("project", None)


def pytest_benchmark_update_json(output_json: Mapping[str, Any]) -> None:
    """Without every single timing: statistics are kept, and fit into a repository."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)

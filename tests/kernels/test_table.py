import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tadp.errors import KernelWarning
from tadp.kernels import failures, reference, registry, tuning
from tadp.kernels.table import Measurement, StaleTableError, Table, device_name, lookup, table_path
from tadp.kernels.values import Codes, Epilogue, Planes
from tadp.precision import L4
from tests.kernels.requests import REQUEST

CPU = torch.device("cpu")
ROW = Measurement(REQUEST, (("linear:int8", 2.0), ("weight_only_linear:dequantize", 1.5)))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this device's table is looked for."""
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path))
    return table_path(device_name(CPU))


def test_is_read_back_as_it_was_written(path: Path) -> None:
    table = Table(device_name(CPU), (ROW, replace(ROW, request=replace(REQUEST, level=L4))))
    table.save(path)
    assert Table.load(path, device_name(CPU)) == table
    assert not list(path.parent.glob("*.partial"))


@pytest.mark.parametrize(
    ("tokens", "known"),
    [(1280, True), (1281, True), (2560, True), (640, True), (2561, False), (600, False), (1, False)],
)
def test_speaks_for_similar_numbers_of_tokens(tokens: int, known: bool) -> None:
    found = Table("here", (ROW,)).fastest(replace(REQUEST, tokens=tokens), ROW.names)
    assert found == ("weight_only_linear:dequantize" if known else None)


def test_the_nearest_number_of_tokens_speaks() -> None:
    near = Measurement(replace(REQUEST, tokens=1000), (("linear:int8", 1.0), ("weight_only_linear:dequantize", 1.5)))
    assert Table("here", (ROW, near)).fastest(replace(REQUEST, tokens=1050), ROW.names) == "linear:int8"


def test_a_neighbour_that_timed_other_kernels_does_not_speak() -> None:
    offered = frozenset({"linear:int8", "weight_only_linear:fused"})
    assert Table("here", (ROW,)).fastest(replace(REQUEST, tokens=1281), offered) is None
    assert Table("here", (ROW,)).fastest(REQUEST, offered) is not None


def test_kernels_that_failed_count_as_tried(path: Path) -> None:
    row = replace(ROW, failed=frozenset({"linear:broken"}))
    Table(device_name(CPU), (row,)).save(path)
    neighbour = replace(REQUEST, tokens=1281)
    for offered in (ROW.names, ROW.names | row.failed):  # in the process where it failed, and in later ones
        assert lookup(neighbour, CPU, offered) == "weight_only_linear:dequantize"
    assert lookup(neighbour, CPU, ROW.names | {"linear:new"}) is None


@pytest.mark.parametrize("change", [{"rows": 8}, {"level": L4}, {"dtype": torch.float32}, {"architecture": "another"}])
def test_says_nothing_of_other_requests(change: dict[str, object]) -> None:
    assert Table("here", (ROW,)).fastest(replace(REQUEST, **change), ROW.names) is None


def test_a_new_measurement_takes_the_place_of_an_earlier_one() -> None:
    newer = Measurement(REQUEST, (("linear:int8", 1.0),))
    assert Table("here", (ROW,)).updated([newer]).measurements == (newer,)


def test_lookup_follows_the_file(path: Path) -> None:
    assert lookup(REQUEST, CPU, ROW.names) is None
    Table(device_name(CPU), (ROW,)).save(path)
    assert lookup(REQUEST, CPU, ROW.names) == "weight_only_linear:dequantize"
    Table(device_name(CPU), (Measurement(REQUEST, (("linear:int8", 1.0),)),)).save(path)
    os.utime(path, ns=(1, 1))
    assert lookup(REQUEST, CPU, ROW.names) == "linear:int8"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps(json.loads(text) | {"tadp": "0.0.0"}),
        lambda text: json.dumps(json.loads(text) | {"format": 99}),
        lambda text: json.dumps(json.loads(text) | {"device": "another"}),
        lambda text: text.replace('"bfloat16"', '"nn"'),
        lambda text: text.replace('"tokens"', '"tekens"'),
        lambda text: text.replace('"level": "8"', '"level": "7"'),
    ],
)
def test_a_damaged_or_foreign_table_is_not_believed(path: Path, damage: object) -> None:
    Table(device_name(CPU), (ROW,)).save(path)
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(StaleTableError, match="tadp bench --tune"):
        Table.load(path, device_name(CPU))
    with pytest.warns(UserWarning, match="kernels are chosen by rule: the table of kernel times"):
        assert lookup(REQUEST, CPU, ROW.names) is None


def test_measures_every_candidate() -> None:
    request = replace(REQUEST, tokens=4, columns=64, rows=32, groups=1, dtype=torch.float32)
    measured, base = tuning.measure(request, CPU, seconds=0.01)
    assert measured.request == request
    assert {name for name, _ in measured.milliseconds} == {
        "linear:int8",
        "weight_only_linear:fused",
        "weight_only_linear:dequantize",
    }
    assert base > 0
    assert all(time > 0 for _, time in measured.milliseconds)


class CompilationError(Exception):
    """As those of Triton, which are no RuntimeErrors."""


def test_a_kernel_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*values: object) -> torch.Tensor:
        raise CompilationError("it is broken")

    monkeypatch.setattr(failures, "_FAILED", {})

    toy = registry.Kernel("broken", "linear", "cpu", lambda request: None, broken)
    offered = (*registry.candidates(REQUEST), toy)
    monkeypatch.setattr(tuning, "candidates", lambda request: offered[::-1])
    request = replace(REQUEST, tokens=4, columns=64, rows=32, dtype=torch.float32)
    with pytest.warns(UserWarning, match="linear:broken is left out"):
        measured, _ = tuning.measure(request, CPU, seconds=0.01)
    assert "linear:broken" not in measured.names
    assert "linear:broken" in measured.failed


def test_a_request_that_no_kernel_serves_is_refused() -> None:
    request = replace(REQUEST, tokens=4, columns=64, rows=32, device="mps", dtype=torch.float32)
    with pytest.raises(LookupError, match="no kernel on mps"):
        tuning.measure(request, CPU, seconds=0.01)


@pytest.mark.parametrize(
    ("read", "weight", "cache", "copies"),
    [
        (10**6, 2 * 10**6, 0, 1),
        (10**9, 2 * 10**9, 50 * 10**6, 1),
        (26 * 10**6, 52 * 10**6, 50 * 10**6, 8),
        (10**6, 4 * 10**6, 50 * 10**6, 200),
        (10**6, 10**9, 50 * 10**6, 2),  # no room for more
    ],
)
def test_weights_are_rotated_through_a_cache_that_would_hold_them(
    read: int, weight: int, cache: int, copies: int
) -> None:
    assert tuning.copies_to_rotate(read, weight, cache) == copies


def test_kernels_are_timed_on_all_copies_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()

    def noted(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
        seen.add(planes.high.data_ptr())
        return reference.linear(codes, planes, epilogue)

    monkeypatch.setattr(tuning, "_cache_bytes", lambda device: 1024)
    toy = registry.Kernel("toy", "linear", "cpu", lambda request: None, noted)
    monkeypatch.setattr(tuning, "candidates", lambda request: (toy,))
    request = replace(REQUEST, tokens=4, columns=64, rows=32, dtype=torch.float32)  # 2,048 bytes at 8 bits
    tuning.measure(request, CPU, seconds=0.01)
    assert len(seen) == 2


def test_a_row_knows_kernels_that_failed_in_rows_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*values: object) -> torch.Tensor:
        raise CompilationError("it is broken")

    monkeypatch.setattr(failures, "_FAILED", {})
    monkeypatch.setattr(registry, "KERNELS", dict(registry.KERNELS))
    registry.register(registry.Kernel("broken", "linear", "cpu", lambda request: None, broken))
    request = replace(REQUEST, tokens=4, columns=64, rows=32, dtype=torch.float32)
    with pytest.warns(KernelWarning, match="linear:broken is left out"):
        first, _ = tuning.measure(request, CPU, seconds=0.01)
    second, _ = tuning.measure(replace(request, rows=16), CPU, seconds=0.01)
    assert first.failed == second.failed == {"linear:broken"}


def test_a_quantizer_that_fails_condemns_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*values: object) -> None:
        raise CompilationError("no compiler")

    monkeypatch.setattr(failures, "_FAILED", {})
    monkeypatch.setattr(torch.ops.tadp, "quantize", broken)
    with pytest.raises(CompilationError):
        tuning.measure(replace(REQUEST, tokens=4, columns=64, rows=32, dtype=torch.float32), CPU, seconds=0.01)
    assert not failures.have_been()


def test_a_registered_kernel_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KERNELS", dict(registry.KERNELS))
    registry.register(registry.Kernel("toy", "linear", "cpu", lambda request: None, reference.linear))
    request = replace(REQUEST, tokens=4, columns=64, rows=32, dtype=torch.float32)
    measured, _ = tuning.measure(request, CPU, seconds=0.01)
    assert "linear:toy" in measured.names

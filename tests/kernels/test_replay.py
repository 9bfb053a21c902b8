"""Calls that are done again as they were recorded: by torch alone, and by the launchers of a GPU's kernels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tadp.kernels import BitPlaneWeight, recording, replay
from tadp.kernels.operators import flatten
from tadp.kernels.values import Codes, Epilogue
from tests.kernels.cases import random_widths

ARCHITECTURE = "sm_90"
TMA = "triton-tma-128x128x32-w8-s3"


@pytest.fixture(autouse=True)
def _nothing_recorded() -> Iterator[None]:
    replay.forget()
    yield
    replay.forget()


@dataclass
class Described:
    """As Triton's descriptors hold a tensor."""

    base: torch.Tensor | None
    rows: int


def add(first: torch.Tensor, second: Any, number: float, out: torch.Tensor) -> None:
    """Stands for a kernel; it goes by addresses, as kernels do."""
    other = second.base if isinstance(second, Described) else second
    out.view(-1).copy_(first.reshape(-1) + other.reshape(-1) * number)


def start(function: Callable[..., None], *arguments: Any) -> None:
    with torch.utils._python_dispatch._disable_current_modes():
        function(*arguments)
    if recording.is_recording():
        recording.note_start(function, arguments)


class Launcher:
    """Runs `body` at each call of a new kind."""

    def __init__(self, body: Callable[..., torch.Tensor]) -> None:
        self.body, self.runs = body, 0

    def __call__(self, *arguments: Any) -> torch.Tensor:
        kind = replay.kind_of("test", arguments, {})
        record = replay.known(kind)
        return (
            recording.recorded(kind, arguments, lambda: self._run(*arguments))
            if record is None
            else record.replay(arguments)
        )

    def _run(self, *arguments: Any) -> torch.Tensor:
        self.runs += 1
        return self.body(*arguments)


def of_views(x: torch.Tensor, y: torch.Tensor, number: float) -> torch.Tensor:
    out = torch.empty(x.numel())
    start(add, x.view(-1), y.t(), number, out)
    return out.view(x.shape)


def of_steps(x: torch.Tensor, y: torch.Tensor, number: float) -> torch.Tensor:
    room = x.new_empty(x.shape)
    room[...] = y
    order, _ = room.sort(dim=-1)
    sums, out = torch.empty_like(x), torch.empty((x.numel(),))
    start(add, x, order, number, sums.view(-1))
    start(add, sums, Described(y, 3), 1.0, out)
    return out.view_as(x)


@pytest.mark.parametrize("body", [of_views, of_steps])
def test_later_calls_do_what_the_first_did(body: Callable[..., torch.Tensor]) -> None:
    launcher = Launcher(body)
    results = []
    for seed in range(4):
        x, y = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed)).unbind()
        y = torch.randn(15, generator=torch.Generator().manual_seed(seed + 9)) if body is of_views else y.contiguous()
        x = x.contiguous()
        found = launcher(x, y, 2.0)
        assert torch.equal(found, body(x, y, 2.0))
        results.append(found)
    assert launcher.runs == 1
    assert len({result.data_ptr() for result in results}) == 4  # every call has a result of its own


def test_views_that_only_kernels_read_are_left_out() -> None:
    launcher = Launcher(of_views)
    x, y = torch.ones(3, 5), torch.ones(15)
    launcher(x, y, 2.0)
    record = replay.known(replay.kind_of("test", (x, y, 2.0), {}))
    assert record is not None
    assert len(record.steps) == 3  # an allocation, a start, and the view that is returned


def test_other_kinds_are_recorded_by_themselves() -> None:
    launcher = Launcher(of_views)
    x, y = torch.ones(3, 5), torch.ones(15)
    others = (
        (x, y, 3.0),
        (torch.ones(5, 3), y, 2.0),
        (x.double(), y, 2.0),
        (x, torch.ones(30)[::2], 2.0),
        (x, torch.ones(16)[1:], 2.0),  # aligned to fewer bytes
    )
    for count, arguments in enumerate(((x, y, 2.0), *others), 1):
        launcher(*arguments)
        launcher(*arguments)
        assert launcher.runs == replay.count() == count


ELSEWHERE = torch.ones(15)


@pytest.mark.parametrize(
    "body",
    [
        lambda x, y, number: of_views(x, ELSEWHERE, number),
        lambda x, y, number: x @ y.view(5, 3),
        lambda x, y, number: start_that_cannot_be_repeated(x),
        lambda x, y, number: ELSEWHERE,
    ],
)
def test_what_cannot_be_done_again_is_not_recorded(body: Callable[..., torch.Tensor]) -> None:
    launcher = Launcher(body)
    for _ in range(5):
        launcher(torch.ones(3, 5), torch.ones(15), 2.0)
    assert launcher.runs == 5
    assert replay.count() == 0
    assert list(replay._TRIED.values()) == [replay._TRIES]  # then it is left alone


def start_that_cannot_be_repeated(x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    if recording.is_recording():
        recording.note_start(None, ())  # as in Triton's interpreter
    return out


def test_records_are_bounded_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_MOST", 3)
    launcher = Launcher(of_views)
    for tokens in range(1, 6):
        launcher(torch.ones(tokens, 5), torch.ones(5 * tokens), 2.0)
        assert 0 < replay.count() <= 3
    with replay.off():
        for _ in range(2):
            launcher(torch.ones(1, 5), torch.ones(5), 2.0)
        assert replay.count() == 0
    assert launcher.runs == 7


def linear_arguments(
    tokens: int, width: int = 8, group_size: int | None = None, mixed: bool = False, columns: int = 512
) -> tuple[str, tuple[Any, ...]]:
    generator = torch.Generator().manual_seed(tokens)
    weight = BitPlaneWeight.from_hp(torch.randn(256, columns, generator=generator, dtype=torch.bfloat16), group_size)
    codes = Codes(*torch.ops.tadp.quantize(torch.randn(tokens, columns, generator=generator), weight.groups))
    planes = weight.planes(width)._replace(widths=random_widths(1, 256) if mixed else None)
    return "linear", flatten(codes, planes, Epilogue(torch.ones(256), "gelu", torch.bfloat16))


def weight_only_arguments(tokens: int, dtype: torch.dtype, columns: int) -> tuple[str, tuple[Any, ...]]:
    weight = BitPlaneWeight.from_hp(torch.randn(256, columns))
    return "weight_only_linear", flatten(torch.randn(tokens, columns).to(dtype), weight.planes(6), Epilogue())


def attention_arguments(dtype: torch.dtype, sparse: bool = False, masked: bool = False) -> tuple[str, tuple[Any, ...]]:
    q = torch.randn(1, 200, 2, 64).to(dtype).transpose(1, 2)
    mask = torch.ones(1, 1, 200, 200, dtype=torch.bool) if masked else None
    maps = (torch.ones(1, 2, 2, 4, dtype=torch.bool),) if sparse else ()
    return "attention", (q, q.clone(), q.clone(), mask, None, 8, "", *maps)


def named(arguments: tuple[Any, ...], kernel_name: str) -> tuple[Any, ...]:
    """With a kernel named, in the place that the schema of linear has for it."""
    return (*arguments[:10], kernel_name, *arguments[11:])


CALLS: dict[str, Callable[[], tuple[str, tuple[Any, ...]]]] = {
    "linear": lambda: linear_arguments(100),
    "linear, split": lambda: linear_arguments(4, 4, columns=4096),
    "linear, groups": lambda: linear_arguments(100, 6, 64),
    "linear, rows of own widths": lambda: linear_arguments(100, mixed=True),
    "linear, masked": lambda: linear_arguments(100, columns=130),
    "linear, descriptors": lambda: ("linear", named(linear_arguments(300)[1], TMA)),
    "weight-only": lambda: weight_only_arguments(100, torch.float16, 512),
    "weight-only, split": lambda: weight_only_arguments(4, torch.bfloat16, 4096),
    "attention": lambda: attention_arguments(torch.bfloat16),
    "attention, masked": lambda: attention_arguments(torch.float32, masked=True),
    "sparse attention": lambda: attention_arguments(torch.bfloat16, sparse=True),
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """What a GPU would be told: programs, and the arguments of each kernel."""
    pytest.importorskip("triton", reason="triton is not installed")
    from tadp.kernels.triton import ahead_of_time
    from tadp.kernels.triton.pretended import forget_compiled_kernels, gpu_on_this_machine

    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(ahead_of_time, "_no_launcher", lambda source, metadata: lambda *given: found.append(given))
    forget_compiled_kernels()
    with gpu_on_this_machine(ARCHITECTURE):
        yield found
    forget_compiled_kernels()


def as_the_gpu_sees(started: list[tuple[Any, ...]], inputs: tuple[Any, ...]) -> list[list[Any]]:
    """Inputs by their addresses, everything else by when it first appears."""
    names = {each.data_ptr(): f"input {i}" for i, each in enumerate(inputs) if isinstance(each, torch.Tensor)}
    seen = []
    for first, second, third, _, _, _, _, _, _, *arguments in started:
        row: list[Any] = [first, second, third]
        for each in arguments:
            tensor = getattr(each, "base", each)
            if isinstance(tensor, torch.Tensor):
                row += [names.setdefault(tensor.data_ptr(), f"buffer {len(names)}"), tensor.dtype]
            row += [] if isinstance(each, torch.Tensor) else [getattr(each, "shape", each)]
        seen.append(row)
    return seen


@pytest.mark.aot
@pytest.mark.parametrize("name", CALLS)
def test_a_replay_starts_the_same_kernels_on_the_same_arguments(name: str, started: list[tuple[Any, ...]]) -> None:
    operator, arguments = CALLS[name]()
    target = getattr(torch.ops.tadp, f"registered_{operator}")
    first = target(*arguments)
    expected = as_the_gpu_sees(started, arguments)
    assert len(expected) == {"linear, split": 2, "weight-only, split": 2}.get(name, 6 if "attention" in name else 1)
    assert replay.count() == 1
    for _ in range(3):
        started.clear()
        other = [each.clone() if isinstance(each, torch.Tensor) else each for each in arguments]
        again = target(*other)
        assert as_the_gpu_sees(started, tuple(other)) == expected
        assert (again.shape, again.stride(), again.dtype) == (first.shape, first.stride(), first.dtype)
    assert replay.count() == 1


@pytest.mark.aot
def test_a_replay_that_fails_is_found_out_anew(started: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    _, arguments = CALLS["linear"]()
    torch.ops.tadp.registered_linear(*arguments)
    started.clear()

    def fail(self: replay.Record, given: object) -> torch.Tensor:
        raise RuntimeError("the context is another one")

    monkeypatch.setattr(replay.Record, "replay", fail)
    torch.ops.tadp.registered_linear(*arguments)
    assert len(started) == 1
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="high does not fit a weight of 512 columns"):
        torch.ops.tadp.registered_linear(*arguments[:3], arguments[3][:, :-1], *arguments[4:])


@pytest.mark.aot
def test_host_work_is_done_once_for_each_kind(started: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    from tadp.kernels import operators

    asked: list[str] = []
    slow = operators._run_or_next
    monkeypatch.setattr(
        operators, "_run_or_next", lambda kernel, *others: (asked.append(str(kernel)), slow(kernel, *others))[1]
    )
    for name in ("linear", "weight-only", "attention"):
        operator, arguments = CALLS[name]()
        for _ in range(5):
            getattr(torch.ops.tadp, f"registered_{operator}")(*arguments)
    assert len(asked) == replay.count() == 3


def test_a_call_that_gives_one_tensor_twice_is_no_pattern_for_others() -> None:
    launcher = Launcher(of_views)
    x, y = torch.randn(15), torch.randn(15)
    launcher(x, x, 2.0)
    assert replay.count() == 0
    assert torch.equal(launcher(x, y, 2.0), x + y * 2)
    assert torch.equal(launcher(y, x, 2.0), y + x * 2)
    assert torch.equal(launcher(x, x, 2.0), x + x * 2)
    assert launcher.runs == 2

"""What ptxas makes of the products that the rule picks: registers, waits, where operands come from."""

from dataclasses import replace
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")

from tadp.kernels.devices import linear_sizes  # noqa: E402
from tadp.kernels.triton.compiled import Compiled, look_at  # noqa: E402
from tadp.kernels.triton.tile import Tile  # noqa: E402
from tadp.precision import Level  # noqa: E402
from tests.kernels.ahead_of_time import ARCHITECTURES  # noqa: E402
from tests.kernels.cases import WIDTHS  # noqa: E402
from tests.kernels.requests import ON_GPU  # noqa: E402

pytestmark = pytest.mark.aot


@pytest.fixture(autouse=True)
def _compile_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))


def look(
    architecture: int, width: int, groups: int = 0, nonlinearity: str = "none", name: str = "", level: str = ""
) -> tuple[Tile, Compiled]:
    """The rule's kernel for a layer of Wan-14B, or the one of a name."""
    request = replace(
        ON_GPU,
        level=Level.parse(level or str(width)),
        tokens=32760,
        columns=5120,
        rows=5120,
        groups=groups,
        architecture=f"sm_{architecture}",
    )
    name = name or linear_sizes(request)[0]
    return Tile.parse(name), look_at(request, name, nonlinearity)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", WIDTHS)
def test_shared_memory_is_foretold(architecture: int, width: int) -> None:
    tile, found = look(architecture, width)
    assert found.shared == tile.held_bytes(width, divmod(architecture, 10))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_threads_unpack_columns_that_stand_side_by_side(architecture: int) -> None:
    # The assembly moves four bytes of a plane alike, which is right if all of them belong to one quarter.
    for width, groups in ((8, 0), (6, 40), (6, 80), (4, 80)):
        assert look(architecture, width, groups)[1].neighbours >= 4
    assert look(architecture, 8, level="6m")[1].neighbours >= 4


@pytest.mark.parametrize("width", WIDTHS)
def test_hopper_takes_weights_from_registers_and_waits_once_for_64_columns(width: int) -> None:
    tile, found = look(90, width)
    assert found.from_registers
    assert tile.warps == 16
    assert found.registers <= 128  # as many as there are for 512 threads
    assert found.products == 8  # of 32 columns, four quarters of 64
    assert found.waits == 4
    assert found.spilled <= 40
    assert found.spills_in_loop <= 1


@pytest.mark.parametrize("name", ["triton-256x128x32-w16-s4", "triton-deep-256x128x32-w16-s4"])
@pytest.mark.parametrize("width", WIDTHS)
def test_hopper_spills_nothing_in_steps_of_32_bytes(name: str, width: int) -> None:
    tile, found = look(90, width, nonlinearity="gelu_tanh", name=name)
    assert found.from_registers
    assert found.spilled == 0
    assert (found.products, found.waits) == (4, 1 if tile.deep else 4)


def test_the_error_function_spills_outside_the_loop_only() -> None:
    for width in WIDTHS:
        found = look(90, width, nonlinearity="gelu")[1]
        assert found.spilled <= 200
        assert found.spills_in_loop <= 1


def test_groups_on_hopper_wait_once_a_step() -> None:
    for groups, products in ((80, 2), (40, 4)):  # of 64 and of 128 columns
        tile, found = look(90, 8, groups)
        assert tile.deep
        assert (found.products, found.waits, found.spilled) == (products, 1, 0)


def test_others_wait_for_no_product() -> None:
    found = look(89, 8)[1]
    assert found.from_registers is None
    assert (found.waits, found.spilled) == (0, 0)
    assert found.products == 64  # of 16 rows, 8 tokens and 32 columns a warp


def test_looks_at_kernels_of_one_pass_only() -> None:
    for name in ("triton-tma-128x128x32-w8-s3", "triton-128x128x32-w8-s3-k2"):
        with pytest.raises(ValueError, match="only kernels that neither split columns"):
            look(90, 8, name=name)

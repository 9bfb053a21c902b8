"""What data sheets and tiles say about the product of codes, against figures worked out by hand."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadp.kernels.gpus import GPUS, gpu_called
from tadp.kernels.roofline import Product, Shares
from tadp.kernels.triton.tile import Tile, kernels_for, tile_for
from tests.kernels.cases import WIDTHS

PUBLISHED = {"A100": 624, "RTX4090": 660.6, "L40S": 733, "H100": 1979, "B200": 4500, "RTX5090": 838}
"""int8 TOP/s, dense, of NVIDIA's data sheets."""

BEFORE = "triton-128x128x32-w8-s3"
"""What the rule took for 8 bits on every GPU, until it asked for the capability."""


def product(gpu: str, name: str, width: int = 8, tokens: int = 32760, rows: int = 5120, columns: int = 5120) -> Product:
    return Product(gpu_called(gpu), Tile.parse(name), width, tokens, rows, columns)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_rates_are_those_of_the_data_sheets(gpu: object) -> None:
    found = gpu_called(str(getattr(gpu, "name", "")).lower())
    rate = 2e-3 * found.products * found.multiprocessors * found.clock
    assert rate == pytest.approx(PUBLISHED[found.name], rel=0.01)


def test_other_gpus_are_not_known() -> None:
    assert gpu_called("RTX 4090") is gpu_called("rtx-4090")
    with pytest.raises(ValueError, match="'T4' is no GPU of the table; there are A100, RTX4090"):
        gpu_called("T4")


@pytest.mark.parametrize(
    ("gpu", "name", "width", "asked"),
    [
        ("H100", BEFORE, 8, 64),
        ("H100", BEFORE, 4, 48),
        ("H100", "triton-deep-256x128x32-w16-s4", 8, 48),
        ("H100", "triton-deep-256x128x32-w16-s4", 4, 32),
        ("A100", BEFORE, 8, 32),
        ("RTX4090", BEFORE, 8, 16),
    ],
)
def test_bytes_asked_of_the_cache(gpu: str, name: str, width: int, asked: float) -> None:
    found = product(gpu, name, width)
    assert found.bytes_per_cycle == pytest.approx(asked)
    assert found.shares().cache == pytest.approx(min(found.gpu.cache_of_one / asked, 1))


def test_programs_that_a_multiprocessor_holds() -> None:
    assert product("H100", BEFORE).programs(registers=128) == 2
    assert product("H100", BEFORE).programs(registers=129) == 1
    assert product("A100", BEFORE).programs(registers=128) == 2  # 2 * (64 + 1) KB of 164
    assert product("A100", "triton-128x128x32-w8-s4").programs(registers=128) == 1
    assert product("RTX4090", BEFORE).programs(registers=128) == 1
    assert product("H100", "triton-deep-256x128x32-w16-s4").programs() == 1


def test_a_step_that_waits_less_waits_less() -> None:
    alone = product("H100", BEFORE).shares(registers=160).waits
    deep = product("H100", "triton-deep-128x128x32-w8-s3").shares(registers=160).waits
    # Two groups, four times: 40 cycles of unpacking, 64 of a product, 60 of waiting, against 512 cycles of products.
    assert alone == pytest.approx(512 / (4 * (40 + 64 + 60)))
    assert deep == pytest.approx(512 / (160 + 512 + 60))
    assert deep < alone  # unpacking of all four quarters comes first, but see the next line
    assert product("H100", "triton-deep-256x128x32-w16-s3").shares(registers=128).waits > alone
    assert product("A100", BEFORE).shares().waits == 1


@given(
    gpu=st.sampled_from(GPUS),
    tokens=st.sampled_from([65, 4096, 32760]),
    rows=st.sampled_from([64, 1536, 13824]),
    columns=st.sampled_from([256, 1536, 8960]),
    width=st.sampled_from(WIDTHS),
)
def test_shares_are_shares(gpu: object, tokens: int, rows: int, columns: int, width: int) -> None:
    capability = gpu.capability  # type: ignore[attr-defined]
    for name in kernels_for(tokens, rows, columns, width, capability):
        found = Product(gpu, Tile.parse(name), width, tokens, rows, columns).shares()  # type: ignore[arg-type]
        assert all(0 < getattr(found, field.name) <= 1 for field in fields(Shares))
        assert getattr(found, found.limit) == found.lowest
        assert found.segments <= found.cache


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("gpu", [gpu.name for gpu in GPUS])
def test_the_rule_is_no_worse_than_one_tile_for_all(gpu: str, width: int) -> None:
    known = gpu_called(gpu)
    rule = str(tile_for(32760, 5120, 5120, width, known.capability))
    now, before = (product(gpu, name, width).shares(registers=128) for name in (rule, BEFORE))
    assert now.lowest >= before.lowest
    assert now.cache >= before.cache
    assert replace(now, segments=1).lowest >= replace(before, segments=1).lowest

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadp.kernels.triton.tile import Tile, kernels_for, tile_for
from tests.kernels.cases import WIDTHS

CAPABILITIES = ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
KIB = {(8, 0): 163, (9, 0): 227, (10, 0): 227}


def powers(least: int, most: int) -> st.SearchStrategy[int]:
    return st.sampled_from([size for size in (2**power for power in range(9)) if least <= size <= most])


@given(
    st.builds(
        Tile,
        rows=powers(16, 256),
        tokens=powers(16, 256),
        bytes=powers(16, 128),
        warps=powers(1, 16),
        stages=st.integers(1, 8),
        splits=st.integers(1, 64),
    ),
    st.sampled_from(["", "descriptors", "deep"]),
)
def test_names_are_read_as_they_are_written(tile: Tile, kind: str) -> None:
    if kind == "descriptors" and tile.splits == 1:
        tile = replace(tile, descriptors=True)
    tile = replace(tile, deep=kind == "deep")
    assert Tile.parse(str(tile)) == tile


def test_names() -> None:
    assert str(Tile(128, 128, 32, 8, 3)) == "triton-128x128x32-w8-s3"
    assert str(Tile(64, 16, 64, 4, 4, splits=4)) == "triton-64x16x64-w4-s4-k4"
    assert str(Tile(128, 256, 32, 8, 3, descriptors=True)) == "triton-tma-128x256x32-w8-s3"
    assert str(Tile(64, 16, 64, 4, 4, splits=2, deep=True)) == "triton-deep-64x16x64-w4-s4-k2"


@pytest.mark.parametrize(("activations", "fits"), [(8, True), (16, False)])
def test_only_products_of_codes_are_deep(activations: int, fits: bool) -> None:
    tile = Tile(64, 64, 16, 4, 2, deep=True)  # four quarters of 16 columns are enough for a product
    if fits:
        tile.check_fits(1536, 0, activations)
    else:
        with pytest.raises(ValueError, match="only the product of codes joins the quarters"):
            tile.check_fits(1536, 0, activations)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "triton",
        "reference",
        "triton-128x128x32-w8",
        "triton-100x128x32-w8-s3",
        "triton-128x8x32-w8-s3",
        "triton-128x128x256-w8-s3",
        "triton-128x128x32-w3-s3",
        "triton-128x128x32-w8-s0",
        "triton-128x128x32-w8-s9",
        "triton-128x128x32-w8-s3-k1",
        "triton-128x128x32-w8-s3-k65",
        "triton-0128x128x32-w8-s3",
        "triton-tma-128x128x32-w8-s3-k2",
        "triton-tma-deep-128x128x32-w8-s3",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no kernel is called"):
        Tile.parse(name)


@given(
    tokens=st.sampled_from([1, 16, 17, 64, 65, 1000, 32760]),
    rows=st.sampled_from([1, 64, 1536, 8960, 13824]),
    columns=st.sampled_from([1, 67, 256, 1536, 5120, 65536]),
    width=st.sampled_from(WIDTHS),
    capability=st.sampled_from(CAPABILITIES),
    activations=st.sampled_from([8, 16, 32]),
    size=st.sampled_from([0, 64, 128]),
)
def test_candidates_can_run(
    tokens: int, rows: int, columns: int, width: int, capability: tuple[int, int], activations: int, size: int
) -> None:
    groups = columns // size if size and columns % size == 0 else 0
    names = kernels_for(tokens, rows, columns, width, capability, activations=activations, groups=groups)
    rule = tile_for(tokens, rows, columns, width, capability, activations=activations, groups=groups)
    assert names[0] == str(rule)
    assert len(set(names)) == len(names) <= 12
    for tile in map(Tile.parse, names):
        tile.check_fits(columns, groups, activations)
        shared = tile.held_bytes(width, capability) if activations == 8 else tile.shared_bytes(width, activations)
        assert shared <= KIB.get(capability, 99) * 1024
        assert capability >= (9, 0) or not tile.descriptors
        assert capability[0] == 9 or not tile.deep
    assert activations == 8 or rule.shared_bytes(width, activations) <= 99 * 1024


@pytest.mark.parametrize(
    ("capability", "width", "name"),
    [
        ((8, 0), 8, "triton-128x128x64-w8-s3"),
        ((8, 0), 4, "triton-128x128x64-w8-s4"),
        ((8, 9), 8, "triton-128x128x32-w8-s4"),  # no room for three steps of 64 bytes
        ((8, 9), 4, "triton-128x128x64-w8-s3"),
        ((9, 0), 8, "triton-256x128x64-w16-s3"),
        ((9, 0), 4, "triton-256x128x64-w16-s4"),
        ((10, 0), 8, "triton-128x128x64-w8-s4"),
        ((12, 0), 6, "triton-128x128x32-w8-s4"),
    ],
)
def test_the_rule_asks_for_the_capability(capability: tuple[int, int], width: int, name: str) -> None:
    assert str(tile_for(32760, 5120, 5120, width, capability)) == name


def test_the_rule_on_hopper() -> None:
    def rule(tokens: int, rows: int, columns: int, **others: Any) -> str:
        return str(tile_for(tokens, rows, columns, 8, (9, 0), **others))

    assert rule(4096, 5120, 1664) == "triton-256x128x32-w16-s4"  # 13 times 128 columns, which are no steps of 256
    assert rule(4096, 128, 1536) == "triton-128x128x64-w8-s4"  # half of 256 rows would be idle
    assert rule(4096, 5120, 1536, mixed=True) == "triton-128x128x64-w8-s4"
    assert rule(4096, 5120, 1540) == "triton-128x64x32-w8-s4"
    assert rule(4096, 5120, 1536, groups=12) == "triton-deep-128x64x32-w8-s4"
    assert rule(4096, 5120, 1536, groups=24) == "triton-deep-128x64x16-w8-s4"
    assert rule(64, 13824, 1536, groups=24) == "triton-64x64x16-w4-s4"
    assert rule(4096, 5120, 1536, groups=12, activations=16) == "triton-128x64x32-w8-s3"


def test_widths_of_single_rows_split_no_columns() -> None:
    assert tile_for(1, 1536, 8960, 8, (9, 0), mixed=True).splits == 1
    assert kernels_for(1, 1536, 8960, 8, (9, 0), mixed=True) == (str(tile_for(1, 1536, 8960, 8, (9, 0), mixed=True)),)


def test_few_tokens_split_the_columns_of_few_rows() -> None:
    for capability in CAPABILITIES:
        assert tile_for(1, 1536, 8960, 4, capability).splits == 8
        assert tile_for(1, 13824, 5120, 4, capability).splits == 1  # enough programs
        assert tile_for(1, 64, 256, 4, capability).splits == 1  # nothing to split
        assert tile_for(4096, 1536, 8960, 4, capability).splits == 1
        assert tile_for(1, 1536, 8960, 4, capability, groups=70).splits == 1
        assert tile_for(1, 1536, 8960, 4, capability, groups=70, activations=16).splits > 1


def test_many_tokens_are_tried_with_descriptors_from_hopper_on() -> None:
    assert any("tma" in name for name in kernels_for(4096, 1536, 1536, 8, (9, 0)))
    assert not any("tma" in name for name in kernels_for(4096, 1536, 1536, 8, (8, 9)))
    assert not any("tma" in name for name in kernels_for(4096, 1536, 1530, 8, (9, 0)))

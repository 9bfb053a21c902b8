import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadp.kernels.triton.attention_tile import (
    OPERANDS,
    AttentionTile,
    attention_kernels_for,
    attention_tile_for,
    operands_for,
    padded_dim,
)
from tadp.kernels.triton.tile import shared_limit

CAPABILITIES = ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))


@given(
    st.builds(
        AttentionTile,
        operands=st.sampled_from(OPERANDS),
        queries=st.sampled_from([16, 32, 64, 128, 256]),
        keys=st.sampled_from([32, 64, 128]),
        warps=st.sampled_from([1, 2, 4, 8]),
        stages=st.integers(1, 8),
    )
)
def test_names_are_read_as_they_are_written(tile: AttentionTile) -> None:
    assert AttentionTile.parse(str(tile)) == tile


def test_names() -> None:
    assert str(AttentionTile("int8_float8", 128, 64, 8, 3)) == "triton-int8_float8-128x64-w8-s3"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "triton",
        "int8",
        "triton-128x128x32-w8-s3",
        "triton-int4_float8-128x64-w8-s3",
        "triton-int8_float8-128x64-w8",
        "triton-int8_float8-100x64-w8-s3",
        "triton-int8_float8-128x16-w8-s3",
        "triton-int8_float8-128x256-w8-s3",
        "triton-int8_float8-128x64-w16-s3",
        "triton-int8_float8-128x64-w8-s9",
        "triton-int8_float8-128x064-w8-s3",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no kernel of attention is called"):
        AttentionTile.parse(name)


@given(st.sampled_from([1, 64, 65, 32760]), st.integers(32, 256), st.sampled_from(CAPABILITIES), st.booleans())
def test_kernels_fit_their_gpu(queries: int, dim: int, capability: tuple[int, int], masked: bool) -> None:
    names = attention_kernels_for(queries, dim, capability)
    rule = attention_tile_for(queries, dim, capability)
    assert names[0] == str(rule)
    assert len(set(names)) == len(names)
    tiles = [*map(AttentionTile.parse, names), attention_tile_for(queries, dim, capability, masked=masked)]
    for tile in tiles:
        tile.check_fits(capability)
        assert tile.shared_bytes(padded_dim(dim)) < shared_limit(capability)
    offered = {tile.operands for tile in tiles}
    assert offered == set(OPERANDS if capability >= (8, 9) else OPERANDS[:1])


def test_dims_are_padded_to_blocks() -> None:
    dims = {1: 32, 32: 32, 33: 64, 64: 64, 80: 128, 96: 128, 128: 128, 129: 256, 256: 256}
    assert {dim: padded_dim(dim) for dim in dims} == dims


def test_operands_by_architecture() -> None:
    assert [operands_for(capability) for capability in CAPABILITIES] == [
        *["int8_float16"] * 2,
        *["int8_float8"] * 2,
        "float8_float8",
        "int8_float8",
    ]
    for operands in OPERANDS[1:]:
        with pytest.raises(ValueError, match="float8 need compute capability"):
            attention_tile_for(64, 64, (8, 6), operands)


@given(st.sampled_from([1, 65, 32760]), st.integers(32, 256), st.sampled_from(CAPABILITIES), st.sampled_from([64, 128]))
def test_kernels_for_a_map_own_queries_of_one_row_and_read_one_block(
    queries: int, dim: int, capability: tuple[int, int], row_queries: int
) -> None:
    names = attention_kernels_for(queries, dim, capability, row_queries=row_queries)
    tiles = [AttentionTile.parse(name) for name in names]
    assert tiles[0] == attention_tile_for(queries, dim, capability, row_queries=row_queries)
    for tile in tiles:
        assert tile.queries <= row_queries
        assert tile.keys <= 64
        assert tile.shared_bytes(padded_dim(dim)) <= shared_limit(capability)
        tile.check_fits(capability)

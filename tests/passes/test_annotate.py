import pytest

from tadp.passes.annotate import block_of, plain_path


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("L['self'].blocks.0.attn1.to_q", "blocks.0.attn1.to_q"),
        ("L['self'].__dict__['_modules']['blocks']._modules['3']._modules['ffn']", "blocks.3.ffn"),
        ("L['self'].blocks[2].norm", "blocks.2.norm"),
        ("L['self']", ""),
    ],
)
def test_dynamo_sources_become_paths(source: str, path: str) -> None:
    assert plain_path(source) == path


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("blocks.3.attn1.to_out.0", "blocks.3"),
        ("model.layers.12", "model.layers.12"),
        ("condition_embedder.time_proj", None),
        ("", None),
    ],
)
def test_block_is_the_first_numbered_part(path: str, block: str | None) -> None:
    assert block_of(path) == block

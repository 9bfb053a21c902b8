"""Which arguments of a block its outputs continue."""

import pytest
import torch

from tadp.runtime.streams import Streams, find_streams

TOKENS, TEXT = torch.ones(1, 6, 4), torch.ones(1, 3, 4)


def test_one_output_continues_the_argument_of_its_shape() -> None:
    found = find_streams((TOKENS, TEXT), {"temb": torch.ones(1, 4)}, TOKENS + 1)
    assert found == Streams((0,), None)


def test_two_streams_in_another_order_by_name() -> None:
    kwargs = {"hidden_states": TOKENS, "encoder_hidden_states": TEXT}
    found = find_streams((), kwargs, (TEXT * 2, TOKENS * 2))
    assert found == Streams(("encoder_hidden_states", "hidden_states"), tuple)
    assert isinstance(found, Streams)
    text, tokens = found.given((), kwargs)
    assert text is TEXT
    assert tokens is TOKENS
    assert found.returned([TEXT, TOKENS]) == (TEXT, TOKENS)


def test_of_arguments_of_one_shape_the_nearest_counts() -> None:
    far, near = torch.full((1, 6, 4), 9.0), torch.full((1, 6, 4), 1.5)
    assert find_streams((far, near), {}, TOKENS) == Streams((1,), None)


def test_outputs_that_are_none_stay_none() -> None:
    found = find_streams((TOKENS,), {}, [TOKENS, None])
    assert found == Streams((0, None), list)
    assert isinstance(found, Streams)
    assert found.returned([TOKENS]) == [TOKENS, None]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (torch.ones(1, 7, 4), "none of its inputs has"),
        ({"sample": TOKENS}, "no tensor"),
        ((TOKENS, "text"), "no tensor"),
        (TOKENS.to(torch.int32), "none of its inputs has"),
        (None, "no tensor"),
    ],
)
def test_blocks_without_streams_say_why(result: object, reason: str) -> None:
    found = find_streams((TOKENS,), {}, result)
    assert isinstance(found, str)
    assert reason in found


def test_a_call_without_the_argument_is_refused() -> None:
    with pytest.raises(LookupError):
        Streams(("hidden_states",), None).given((TOKENS,), {})
    with pytest.raises(LookupError):
        Streams((0,), None).given((None,), {})

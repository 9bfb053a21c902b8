"""The classes that bench.quality.bert_head fits to are those that the lexicons find."""

import pytest

from bench.quality.bert_head import tagged
from tadp.complexity import english, text
from tadp.complexity.tags import TAGS, Word, gather


@pytest.mark.parametrize(
    "prompt",
    [
        "a red circle moves left, then bounces and a small blue square orbits it on a gray background",
        "a red circle meets a small star, the red circle stands still next to the wall",
        "slowly the ice melts in the storm; an explosion follows, one by one the turbulent waves rise",
    ],
)
def test_tags_count_what_the_lexicons_found(prompt: str) -> None:
    assert {word.kind for word in tagged(prompt)} <= set(TAGS)
    kinds = {word[:2]: word.kind for word in tagged(prompt)}
    spans = [match.span() for match in english.TOKEN.finditer(prompt)]
    by_tags = text.weigh(prompt, lambda read: gather(read, (Word(*span, kinds.get(span, "other")) for span in spans)))
    assert by_tags == text.score(prompt)

from tadp.complexity import english
from tadp.complexity.finds import ACTION, MOTION, ORDER, PLACE, Find, Finds, described
from tadp.complexity.tags import Word, gather


def _gather(prompt: str, kinds: str) -> Finds:
    spans = [match.span() for match in english.TOKEN.finditer(prompt)]
    return gather(prompt, (Word(*span, kind) for span, kind in zip(spans, kinds.split(), strict=True)))


def test_neighbours_make_one_name_and_one_phrase() -> None:
    found = _gather("a red circle in front of it", "other description thing relation relation relation other")
    assert found.things == (Find("red circle", described(1), 2),)
    assert found.relations == (Find("in front of", 1.0, 13),)


def test_marks_and_verbs_keep_their_neighbours_apart() -> None:
    found = _gather("cat, dog on, on run read", "thing other thing place other place motion action")
    assert [find.words for find in found.things] == ["cat", "dog"]
    assert found.relations == (Find("on", PLACE, 9), Find("on", PLACE, 13))
    assert found.actions == (Find("run", 1.0, 16), Find("read", 1.0, 20))
    assert found.changes == (Find("run", MOTION, 16), Find("read", ACTION, 20))


def test_descriptions_of_nothing_are_no_thing_and_a_name_counts_once() -> None:
    assert _gather("red and warm", "description other description") == Finds()
    assert len(_gather("dog and dog", "thing other thing").things) == 1


def test_events_are_things_and_encounters_are_relations() -> None:
    found = _gather("battle orbits moon", "event encounter thing")
    assert [find.words for find in found.things] == ["battle", "moon"]
    assert found.relations == (Find("orbits", 1.0, 7),)
    assert found.changes == (Find("battle", ORDER, 0), Find("orbits", MOTION, 7))

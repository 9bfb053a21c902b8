import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.complexity.score import FeatureRange, ScoreWeights
from tadp.files import calibration as calibration_file
from tadp.files.calibration import load, save
from tadp.files.channels import path_beside
from tadp.files.fingerprint import calibration_key
from tadp.planning.calibration import Calibration, Line, RoleSensitivity, Row
from tadp.planning.costs import BlockCost, Costs
from tadp.planning.reuse_costs import ReuseCosts
from tadp.precision import L4, L8, L16, Level, Recipe, Role
from tadp.version import VERSION
from tests.calibrations import FOUND
from tests.policy.costs_of import made_up_costs


def test_a_calibration_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "calibration.json"
    save(FOUND, path)
    assert load(path) == FOUND
    assert str(load(path)).endswith(f", from {path}")
    assert [entry.name for entry in path.parent.iterdir()] == ["calibration.json"]


def test_it_holds_for_its_model_only() -> None:
    FOUND.check("abc")
    with pytest.raises(ValueError, match=r"another model.*tadp calibrate"):
        FOUND.check("abd")


def test_it_holds_for_its_versions_only() -> None:
    old = replace(FOUND, key={**FOUND.key, "versions": {"tadp": "0.0.1", "torch": "2.0"}})
    with pytest.raises(ValueError, match=r"tadp 0\.0\.1, torch 2\.0: calibrate again"):
        old.check("abc")
    replace(FOUND, key={**FOUND.key, "versions": {"tadp": VERSION, "torch": "2.0"}}).check("abc")


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no calibration .*tadp calibrate"):
        load(tmp_path / "calibration.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}', "null"])
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="calibrate again"):
        load(path)


finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=8)
recipes = st.builds(
    lambda level, roles: Recipe(level, tuple(roles.items())),
    st.sampled_from((L16, L8, L4, Level.parse("w4a16"), Level.parse("6m"))),
    st.dictionaries(st.sampled_from(Role), st.sampled_from((L8, L4)), max_size=2),
)
ranges = st.tuples(finite, finite, finite).filter(lambda drawn: drawn[0] < drawn[1])


@st.composite
def costs(draw: st.DrawFn) -> Costs:
    stages = tuple(sorted(draw(st.sets(st.floats(0, 1), max_size=3)), reverse=True))

    def each(drawn: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(drawn) for _ in range(len(stages) + 1))

    menu = draw(st.lists(recipes, min_size=1, max_size=3, unique=True))
    return Costs(
        blocks={
            block: {recipe: BlockCost(each(finite), draw(finite), draw(st.integers(0, 10**12))) for recipe in menu}
            for block in draw(st.lists(names, min_size=1, max_size=3, unique=True))
        },
        base=menu[0],
        stages=stages,
        steps=each(st.integers(0, 50)),
        shares=each(finite),
        intercept=draw(finite),
        slope=draw(finite),
        spread=draw(finite),
        other_seconds=draw(finite),
        other_bytes=draw(st.integers(0, 10**12)),
        reuse=draw(st.none() | reuses(len(stages) + 1)),
    )


@st.composite
def reuses(draw: st.DrawFn, stages: int) -> ReuseCosts:
    bounds = draw(st.lists(finite, max_size=3, unique=True))
    spans = st.tuples(*[st.tuples(finite, finite)] * stages)
    return ReuseCosts(
        shares=draw(st.tuples(*[finite] * stages)),
        unit=draw(finite),
        intercept=draw(finite),
        slope=draw(finite),
        factors={bound: draw(finite) for bound in bounds},
        factor_at_16=draw(finite),
        skipped={bound: draw(spans) for bound in bounds},
        bytes=draw(st.integers(0, 10**12)),
    )


@st.composite
def channels(draw: st.DrawFn, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5)))
    return {name: (torch.rand(shape, generator=generator) * 8).to(dtype) for name in draw(st.sets(names, max_size=2))}


rows = st.builds(Row, names, st.builds(Line, finite, finite, finite), finite, st.integers())
sensitivities = st.builds(
    RoleSensitivity,
    block=names,
    role=st.sampled_from(Role),
    level=st.sampled_from((L8, L4)),
    quality=names,
    error=finite,
    visual=finite,
    estimate=finite | st.none(),
)
calibrations = st.builds(
    Calibration,
    key=st.builds(calibration_key, st.dictionaries(names, names, max_size=2), st.dictionaries(names, finite | names)),
    ranges=st.dictionaries(names, ranges.map(lambda drawn: FeatureRange(*drawn)), max_size=3),
    weights=st.builds(ScoreWeights, st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 1)),
    correlations=st.dictionaries(names, finite, max_size=3),
    left_out=finite,
    costs=costs(),
    table=st.lists(rows, max_size=2).map(tuple),
    sensitivity=st.lists(sensitivities, max_size=2).map(tuple),
    samples=st.integers(),
    bias=st.dictionaries(names, finite, max_size=2),
    channel_peaks=channels(torch.float32),
    channel_widths=channels(torch.uint8),
)


@settings(deadline=None)
@given(calibrations)
def test_every_calibration_comes_back(calibration: Calibration) -> None:
    with tempfile.TemporaryDirectory() as directory:
        save(calibration, Path(directory) / "calibration.json")
        assert load(Path(directory) / "calibration.json") == calibration


PLAIN = [item.name for item in fields(Calibration) if not item.name.startswith("channel_")]


@settings(deadline=None)
@given(calibrations, calibrations, st.sampled_from(PLAIN))
def test_equality_looks_at_every_field(one: Calibration, other: Calibration, name: str) -> None:
    mine, theirs = getattr(one, name), getattr(other, name)
    assert (replace(one, **{name: theirs}) == one) == (mine == theirs)
    assert one == replace(one)


def test_tensors_count_in_equality() -> None:
    peaks = {"a": torch.ones(2, 3)}
    others = [
        {},
        {"b": peaks["a"]},
        {"a": torch.zeros(2, 3)},
        {"a": torch.ones(2, 2)},
        {"a": torch.ones(2, 3).double()},
    ]
    found = replace(FOUND, channel_peaks=peaks)
    assert found == replace(FOUND, channel_peaks={"a": torch.ones(2, 3)})
    assert all(found != replace(FOUND, channel_peaks=other) for other in others)


def _fields(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every field of a JSON content: what holds it, and its name or position."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in pairs:
        yield content, name
        yield from _fields(value)


def _flipped(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value[::-1] if value != value[::-1] else value + "8"
    if isinstance(value, dict):
        return dict(reversed(value.items())) if len(value) > 1 else {**value, "more": 0}
    return [*value, 0] if isinstance(value, list) else 0


def _retyped(value: Any) -> Any:
    """The same value as another type, as far as there is one."""
    if isinstance(value, (dict, list)):
        return None
    if isinstance(value, str):
        return [value]
    if isinstance(value, float):
        return str(value)
    return float(value) if isinstance(value, int) else ""


@pytest.mark.parametrize("change", [_flipped, _retyped, None], ids=["flipped", "retyped", "removed"])
def test_no_field_is_damaged_unnoticed(tmp_path: Path, change: Callable[[Any], Any] | None) -> None:
    path = tmp_path / "calibration.json"
    whole = replace(
        FOUND, costs=made_up_costs(("blocks.0",)), channel_widths={"blocks.0.ffn": torch.ones(3, 2, dtype=torch.uint8)}
    )
    save(whole, path)
    text = path.read_text()
    count = len(list(_fields(json.loads(text))))
    assert count > 100
    for index in range(count):
        content = json.loads(text)
        place, name = list(_fields(content))[index]
        if change is None:
            del place[name]
        else:
            place[name] = change(place[name])
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"tadp calibrate"):
            load(path)
    path.write_text(json.dumps(json.loads(text), indent=7))
    assert load(path) == whole  # the layout says nothing


@settings(deadline=None)
@given(st.data())
def test_no_byte_is_changed_unnoticed(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "calibration.json"
        save(FOUND, path)
        found = bytearray(path.read_bytes())
        found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(found)
        try:
            loaded = load(path)
        except ValueError:
            return
        assert loaded == FOUND


def test_values_that_do_not_exist_are_refused_whatever_the_checksum_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calibration.json"
    monkeypatch.setattr(calibration_file, "_checksum", lambda content: "")
    for old, new in (('"8+attention:8"', '"7"'), ('"ffn.up"', '"ffn.sideways"'), ('"weights"', '"heights"')):
        save(FOUND, path)
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(ValueError, match="is damaged"):
            load(path)


MEASURED = replace(
    FOUND,
    channel_peaks={"blocks.0.ffn": torch.ones(4, 8)},
    channel_widths={"blocks.0.ffn": torch.tensor([[8, 8], [8, 6], [6, 4]], dtype=torch.uint8)},
)


def test_channels_are_in_the_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    save(MEASURED, path)
    assert load(path) == MEASURED
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["calibration.json", "calibration.safetensors"]
    save(FOUND, path)
    assert load(path) == FOUND  # and no channels of an earlier run


def test_a_missing_damaged_or_foreign_file_beside_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    save(replace(MEASURED, key={**FOUND.key, "call": {}}), path)
    foreign = path_beside(path).read_bytes()
    save(replace(MEASURED, channel_peaks={}), path)
    earlier = path_beside(path).read_bytes()
    save(MEASURED, path)
    whole = path_beside(path).read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for content, message in (
        (foreign, "not of this calibration"),
        (earlier, "of another run of this calibration"),
        (flipped, "is damaged"),
        (b"nothing", "is damaged"),
        (None, "is missing"),
    ):
        if content is None:
            path_beside(path).unlink()
        else:
            path_beside(path).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{message}.*tadp calibrate"):
            load(path)

"""Names for people and keys for files: what is read back is what was written, and nothing shares a key."""

import math
import re
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tadp.complexity import bert, text
from tadp.complexity.score import FeatureRange, ScoreWeights
from tadp.policy import Budget, Complexity, Difference, Fixed, Policy, Seen, Staged, Static, parse, register
from tadp.precision import L4, L8, L16, Extrapolation, Level, Plan, Recipe, Reuse, Role
from tests.policy.costs_of import BLOCKS, made_up_costs

LEVELS = st.sampled_from(("16", "8", "6", "4", "7m", "6m", "5m", "w8a16", "w6a16", "w4a16")).map(Level.parse)
REUSES = st.builds(Reuse, st.floats(0, 10) | st.just(math.inf), st.integers(1, 5), st.sampled_from(Extrapolation))
RECIPES = st.builds(
    lambda level, roles, reuse: Recipe(level, tuple(roles.items()), reuse),
    LEVELS,
    st.dictionaries(st.sampled_from(Role), LEVELS, max_size=3),
    st.none() | REUSES,
)
SHARES = st.floats(0, 1)
ABOVE_0 = st.floats(0, exclude_min=True, allow_infinity=False)
PLANS = st.dictionaries(st.from_regex(r"[a-zA-Z_]+\.[0-9]+", fullmatch=True), RECIPES, max_size=4).map(Plan.of)

STATIC = st.builds(Static, LEVELS, st.booleans(), LEVELS, st.integers(0, 9))
FIXED = st.builds(Fixed, PLANS, st.integers(0, 9))


@st.composite
def staged(draw: st.DrawFn) -> Staged:
    bounds = sorted(draw(st.sets(st.floats(0, 1, exclude_min=True), max_size=3)), reverse=True)
    return Staged(tuple(draw(RECIPES) for _ in range(len(bounds) + 1)), tuple(bounds))


@st.composite
def complexities(draw: st.DrawFn) -> Complexity:
    low, high = sorted((draw(SHARES), draw(SHARES)))
    return Complexity(
        low=low,
        high=high,
        key_blocks=draw(SHARES),
        shadow_budget=draw(SHARES),
        lowest=draw(LEVELS),
        late=tuple(sorted(draw(st.tuples(*[st.floats(0.01, 1.0)] * 3)), reverse=True)),
        early=draw(LEVELS),
        probe=draw(st.none() | LEVELS),
        reuse=draw(st.floats(0.0, 1.0) | st.tuples(*[st.floats(0.0, 1.0)] * 3)),
    )


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    bounds = draw(
        st.dictionaries(st.sampled_from(("quality", "latency", "memory")), ABOVE_0 | st.integers(1, 10**12), min_size=1)
    )
    return Budget(
        **bounds,
        deviations=draw(st.floats(-3, 3)),
        keep_ends=draw(st.booleans()),
        recipes_allowed=draw(st.none() | st.lists(RECIPES, min_size=1, max_size=3).map(tuple)),
        shadow_budget=draw(SHARES),
    )


RANGES = st.dictionaries(
    st.sampled_from(("entropy", "text.total")), st.builds(FeatureRange, SHARES, st.floats(2, 3), SHARES), max_size=2
)
WEIGHTS = st.none() | st.builds(ScoreWeights, ABOVE_0, SHARES, SHARES)
REUSING = st.builds(Static, LEVELS, reuse=REUSES)
DIFFERENCE = st.builds(Difference, st.floats(0, 2), LEVELS, st.floats(0, 1), st.integers(0, 3))
SAID = STATIC | FIXED | REUSING | DIFFERENCE | staged() | complexities() | budgets()
"""Policies that strings can say."""


@st.composite
def unsaid(draw: st.DrawFn) -> Policy:
    """Policies with settings that no string can say, as a rule."""
    if draw(st.booleans()):
        spread = draw(st.sampled_from((0.1, 0.2)))
        costs = draw(st.sampled_from((None, made_up_costs(spread=spread), made_up_costs(BLOCKS[::-1], spread))))
        return replace(draw(budgets()), ranges=draw(RANGES), weights=draw(WEIGHTS), costs=costs)
    return replace(
        draw(complexities()),
        ranges=draw(RANGES),
        weights=draw(WEIGHTS),
        sensitive=tuple(draw(st.lists(st.sampled_from(BLOCKS), max_size=3))),
        kept=draw(st.none() | st.frozensets(st.sampled_from(BLOCKS))),
        text_scorer=draw(st.sampled_from((text.score, bert.score))),
    )


@settings(deadline=None)
@given(SAID)
def test_what_a_string_says_is_read_back(policy: Policy) -> None:
    assert parse(str(policy)) == policy
    assert policy.key == str(policy)
    assert parse(str(policy)).key == policy.key


@settings(deadline=None)
@given(unsaid())
def test_names_are_read_back_or_say_what_cannot_be(policy: Policy) -> None:
    if lost := re.search(r"\(with (.+)\)", str(policy)):
        with pytest.raises(ValueError, match=f"no string can say its {re.escape(lost[1])}"):
            parse(str(policy))
        with pytest.raises(ValueError, match="no string can say"):
            parse(policy.key)
    else:
        assert parse(str(policy)) == policy


@settings(deadline=None)
@given(SAID | unsaid(), SAID | unsaid())
def test_other_settings_have_other_keys(first: Policy, second: Policy) -> None:
    assume(first != second)
    assert first.key != second.key


@settings(deadline=None)
@given(unsaid(), st.data())
def test_each_setting_is_in_the_key(policy: Policy, data: st.DataObject) -> None:
    other = data.draw(unsaid().filter(lambda drawn: type(drawn) is type(policy)))
    name = data.draw(st.sampled_from(sorted(field for field in vars(policy) if not field.startswith("_"))))
    try:
        changed = replace(policy, **{name: getattr(other, name)})  # type: ignore[type-var]
    except ValueError:  # the thresholds have an order
        return
    assert (changed == policy) == (changed.key == policy.key)


def test_the_order_of_costed_blocks_is_in_the_key() -> None:
    forward, backward = (Budget(quality=40, costs=made_up_costs(blocks)) for blocks in (BLOCKS, BLOCKS[::-1]))
    assert replace(forward, costs=made_up_costs()).key == forward.key
    assert forward.key != backward.key


@pytest.mark.parametrize(
    "name",
    [
        "static:16",
        "static:8",
        "static:w8a16",
        "static:8+attention",
        "static:8+attention:6",
        "static:8+sparse50",
        "static:8+mass95",
        "static:16+sparse10,ends=16",
        "fixed:blocks.0=8+attention:sparse25",
        "static:8,ends=16",
        "static:8,ends=16,probe=2",
        "complexity",
        "complexity:low=0.2,high=0.8",
        "complexity:late=0.9/0.9/0.5,probe=8,lowest=4",
        "budget:quality=40",
        "budget:quality=38.5,latency=5,memory=1e+09,deviations=1",
        "budget:quality=44,ends=free",
        "budget:latency=5,recipes=16/8/8+attention:8,shadow_budget=0.1",
        "fixed:blocks.0=8+attention:8,blocks.1=16",
        "fixed:blocks.0=16+ffn.down:4,probe=1",
        "staged:8",
        "staged:8,0.8:16,0.123456789:8+attention:8",
    ],
)
def test_names_round_trip(name: str) -> None:
    assert str(parse(name)) == parse(name).key == name


def test_spaces_and_the_case_of_words_do_not_count() -> None:
    assert parse(" STATIC:8+Attention , Ends=16 ") == Static(L8, keep_ends=True, attention=L8)
    assert parse("static:8+Sparse") == Static(L8, attention=Level.parse("sparse50"))
    assert parse("static:8+attention:sparse10") == parse("static:8+sparse10")
    assert parse("static:8+attention:mass90") == parse("static:8+mass90")
    assert parse("budget: Quality = 40, ends=FREE") == Budget(quality=40.0, keep_ends=False)
    assert parse("fixed: Blocks.0 = W8A16") == Fixed(Plan.of({"Blocks.0": Recipe(Level.parse("w8a16"))}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"unknown policy ''; valid ones are .*static:LEVEL.*complexity.*budget:"),
        ("adaptive", "unknown policy 'adaptive'; valid ones are"),
        ("static", "valid levels are 16, 8"),
        ("static:5", "valid levels are 16, 8"),
        ("static:8+magic", "unknown role 'magic'"),
        ("static:8+ffn.up:4", "'ffn.up' cannot have a level of its own"),
        ("static:0", "nothing can run at level 0"),
        ("static:8+reuse", "reuse:BOUND"),
        ("static:8+longest:2", "write reuse:BOUND"),
        ("static:8+reuse:-1", "at least 0"),
        ("static:8+reuse:0.1+longest:0", "at least one step"),
        ("static:sparse50", "sparse50 is a level of the attention products"),
        ("static:8+sparse30", "valid levels are 16, 8"),
        ("static:8,ends=8", r"'ends=8': ends are 16 or free.*static:LEVEL"),
        ("static:8,probe=two", "'two' is no whole number"),
        ("static:8,ends=16,ends=16", "'ends' stands twice"),
        ("complexity:3", r"'3' is no setting; settings are low, high.*complexity:low=0\.2"),
        ("complexity:low=0.9", "0 <= low <= high <= 1"),
        ("budget", "a budget needs a bound"),
        ("budget:", "a budget needs a bound"),
        ("budget:ends=free", "a budget needs a bound"),
        ("budget:speed=3", "'speed=3' is no setting; settings are quality, latency"),
        ("budget:quality=high", "'quality=high': 'high' is no number"),
        ("budget:quality=inf", "finite and above 0"),
        ("budget:quality=4,recipes=", "valid levels"),
        ("fixed:blocks.0=9", "valid levels"),
        ("fixed:a.0=8,a.0=4", "stands twice"),
        ("staged:8,16", "unknown level ''"),
        ("staged:8,0.5:16,0.6:8", "noise levels that fall"),
    ],
)
def test_bad_names_say_what_is_wrong(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(name)


def test_only_strings_and_policies_are_policies() -> None:
    assert parse(Static(L8)) == Static(L8)
    with pytest.raises(TypeError, match="a policy is a string or an object"):
        parse(8)  # type: ignore[arg-type]


@pytest.mark.parametrize("block", ["probe", "a,b", "a=b", " a"])
def test_blocks_that_no_string_can_name_are_said_to_be_lost(block: str) -> None:
    policy = Fixed(Plan.of({block: Recipe(L8)}))
    assert re.search(r"\(with chosen.*\)$", str(policy))
    assert policy.key != Fixed(Plan.of({block: Recipe(L4)})).key


@register
@dataclass(frozen=True)
class Toy(Policy):
    """Registered by one declaration."""

    name: ClassVar[str] = "toy"
    level: Level = L8

    @classmethod
    def parse(cls, settings: str) -> "Toy":
        return cls(Level.parse(settings or "8"))

    def written(self) -> str:
        return "" if self.level == L8 else str(self.level)

    def recipes(self) -> tuple[Recipe, ...]:
        return (Recipe(self.level),)

    def plan(self, seen: Seen) -> Plan:
        return Plan.of(dict.fromkeys(seen.blocks, Recipe(self.level)))


@dataclass(frozen=True)
class Careful(Complexity):
    """Inherits the name of another policy, which is not its own."""

    margin: float = 0.1


class Bare(Toy):
    """No dataclass of its own."""


def test_a_policy_of_ones_own_is_named_by_one_declaration() -> None:
    assert parse("toy:4") == Toy(L4)
    assert [str(Toy()), Toy(L16).key] == ["toy", "toy:16"]
    with pytest.raises(ValueError, match=r"valid ones are .*toy"):
        parse("toys")


def test_names_are_given_once() -> None:
    class Other(Toy):
        """Another class of the name."""

    with pytest.raises(ValueError, match="there is a policy called 'toy' already"):
        register(Other)
    Other.name = "Other Toy"
    with pytest.raises(ValueError, match="lower-case word"):
        register(Other)
    assert register(Toy) is Toy


def test_subclasses_share_no_key_with_what_they_inherit_from() -> None:
    keys = {Complexity().key, Careful().key, Careful(margin=0.2).key, Careful(low=0.2).key}
    assert len(keys) == 4
    assert Careful().key.startswith(f"{__name__}.Careful (")
    with pytest.raises(ValueError, match="no string can say"):
        parse(str(Careful()))


def test_what_has_no_exact_name_has_no_key() -> None:
    with pytest.raises(TypeError, match=r"Bare needs @dataclass\(frozen=True\)"):
        _ = Bare().key
    with pytest.raises(ValueError, match="cannot be imported by this name"):
        _ = Complexity(text_scorer=lambda prompt: text.score(prompt)).key
    assert str(Complexity(text_scorer=lambda prompt: text.score(prompt))) == "complexity (with text_scorer)"


def test_functions_are_named_by_their_module() -> None:
    assert Complexity(text_scorer=bert.score).key == "complexity (text_scorer=tadp.complexity.bert.score)"

import pytest

from tadp.precision import L4, L6, L8, L16, Level, Plan, Recipe, Role


@pytest.mark.parametrize(
    "name", ["16", "8", "6", "4", "7m", "6m", "5m", "w8a16", "w6a16", "w4a16", "sparse50", "sparse10", "mass95"]
)
def test_level_names_round_trip(name: str) -> None:
    assert str(Level.parse(name)) == name


def test_integer_levels_have_8_bit_activations() -> None:
    assert Level.parse("4") == Level(4, 8)
    assert Level.parse("w4a16") == Level(4, 16)
    assert Level.parse("6m") == Level(6, 8, mixed=True)
    assert Level.parse("6m") != L6


def test_sparse_levels_are_8_bits_of_attention_alone() -> None:
    assert Level.parse("sparse25") == Level(8, 8, kept=25)
    assert Level.parse("sparse") == Level.parse("sparse50") != L8
    assert Level.parse("mass99") == Level(8, 8, mass=99)
    assert [Level.parse(name).dense for name in ("sparse10", "mass90", "8")] == [L8] * 3
    assert [Level.parse(name).is_sparse for name in ("sparse10", "mass90", "8")] == [True, True, False]
    recipe = Recipe.parse("8+attention:sparse25")
    assert str(recipe[Role.ATTENTION]) == "sparse25"
    assert str(recipe) == "8+attention:sparse25"
    assert not recipe.has(Level.parse("sparse25"))
    for name in ("sparse", "mass90", "8+ffn.up:sparse25", "8+ffn.up:mass95"):
        with pytest.raises(ValueError, match="a level of the attention products, not of linear layers"):
            Recipe.parse(name)


def test_mixed_levels_read_all_planes() -> None:
    assert Level.parse("5m").widest == 8
    assert L4.widest == 4


@pytest.mark.parametrize("name", ["5", "", "w3a16", "w8a8a", "eight", "sparse30", "sparse100", "mass", "mass100"])
def test_unknown_level_names_the_valid_ones(name: str) -> None:
    with pytest.raises(ValueError, match="valid levels are 16, 8, 6, 4"):
        Level.parse(name)


def test_recipe_overrides_its_default() -> None:
    recipe = Recipe(L8, ((Role.FFN_UP, L4),))
    assert recipe[Role.FFN_UP] == L4
    assert recipe[Role.FFN_DOWN] == L8
    assert recipe.has(L4)
    assert not recipe.has(L16)


def test_attention_stays_at_16_unless_named() -> None:
    assert Recipe(L4)[Role.ATTENTION] == L16
    assert Recipe(L4, ((Role.ATTENTION, L8),))[Role.ATTENTION] == L8


def test_recipes_with_overrides_in_any_order_are_equal() -> None:
    one = Recipe(L8, ((Role.FFN_UP, L4), (Role.SELF_ATTN_OUT, L16)))
    other = Recipe(L8, ((Role.SELF_ATTN_OUT, L16), (Role.FFN_UP, L4)))
    assert one == other
    assert hash(one) == hash(other)


def test_plan_is_a_value_that_is_read_by_name() -> None:
    plan = Plan.of({"blocks.0": Recipe(), "blocks.1": Recipe(L8)})
    assert plan["blocks.1"] == Recipe(L8)
    assert plan == Plan.of([("blocks.0", Recipe()), ("blocks.1", Recipe(L8))])
    with pytest.raises(KeyError):
        plan["blocks.2"]

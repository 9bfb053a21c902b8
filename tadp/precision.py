"""Level, role, recipe and plan: the values in which precision is spoken of. Imports nothing of tadp."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

MIXED_AVERAGES = (7, 6, 5)
"""Bits that a weight may have on average where every output channel has a width of its own."""

KEPT_SHARES = (50, 25, 10)
"""Percentages of the blocks of keys that block-sparse attention may keep."""

KEPT_MASSES = (99, 95, 90)
"""Percentages of the guessed attention weights that the blocks of keys which it keeps may hold instead."""

_SPARSE_NAMES = ("sparse", *(f"sparse{kept}" for kept in KEPT_SHARES))
_MASS_NAMES = tuple(f"mass{mass}" for mass in KEPT_MASSES)
_LEVEL_NAMES = (
    "16",
    "8",
    "6",
    "4",
    *(f"{average}m" for average in MIXED_AVERAGES),
    "w8a16",
    "w6a16",
    "w4a16",
    *_SPARSE_NAMES,
    *_MASS_NAMES,
    "0",
)


@dataclass(frozen=True, order=True)
class Level:
    """Widths of one operation in bits. 16 stands for the model's own floating type, 0 for one that is not run.

    Attributes:
        weight: of weights; of mixed widths the average.
        activation: of what they are multiplied with.
        mixed: whether output channels have 8, 6 or 4 bits each, by importance (SPEC A7): so many that over all layers
            of a model a weight has `weight` bits on average.
        kept: of attention products, the percentage of the blocks of keys that each block of queries sees.
        mass: of attention products, the percentage of its guessed weights that the blocks hold which a block of queries
            sees: few where attention is sharp, nearly all where it is flat. 0 for a level that does not ask for it.
    """

    weight: int
    activation: int
    mixed: bool = False
    kept: int = 100
    mass: int = 0

    @staticmethod
    def parse(name: str | int) -> "Level":
        """Read "16", "8" (8-bit activations), "6m" (mixed), "w8a16" (weights only), "sparse25", "mass95" and the like.

        "sparse" alone is "sparse50".

        Raises:
            ValueError: for any other name.
        """
        text = str(name).strip().lower()
        if text not in _LEVEL_NAMES:
            raise ValueError(f"unknown level {name!r}; valid levels are {', '.join(_LEVEL_NAMES)}")
        if text in ("16", "0"):
            return Level(int(text), int(text))
        if match := re.fullmatch(r"w(\d)a16", text):
            return Level(int(match[1]), 16)
        if text in _SPARSE_NAMES:
            return Level(8, 8, kept=int(text.removeprefix("sparse") or KEPT_SHARES[0]))
        if text in _MASS_NAMES:
            return Level(8, 8, mass=int(text.removeprefix("mass")))
        return Level(int(text[0]), 8, mixed=text.endswith("m"))

    @property
    def widest(self) -> int:
        """The width of the widest channel."""
        return 8 if self.mixed else self.weight

    @property
    def dense(self) -> "Level":
        """The level whose attention products see all keys, itself where they do."""
        return replace(self, kept=100, mass=0)

    @property
    def without_master(self) -> "Level":
        """What comes nearest to the level without a 16-bit weight, itself where it has none."""
        return W8A16 if self == L16 else self

    @property
    def is_sparse(self) -> bool:
        """Whether attention products may leave out blocks of keys."""
        return self.kept < 100 or self.mass > 0

    def __str__(self) -> str:
        if self.mixed:
            return f"{self.weight}m"
        if self.is_sparse:
            return f"mass{self.mass}" if self.mass else f"sparse{self.kept}"
        plain = self.weight == self.activation or self.activation == 8
        return str(self.weight) if plain else f"w{self.weight}a{self.activation}"


L16, L8, L6, L4, L0 = (Level.parse(name) for name in ("16", "8", "6", "4", "0"))
W8A16 = Level.parse("w8a16")


@dataclass(frozen=True)
class Part:
    """What a variant reads of a value.

    Attributes:
        kind: "itself", "master" for the 16-bit weight, a tensor of a packed weight by its name ("high", "mid", "low",
            "scale", "factors"), or "widths" for those of its output channels at a mixed level.
        average: of "widths", the bits that a weight has on average, one of `MIXED_AVERAGES`.
    """

    kind: str
    average: int | None = None

    def __str__(self) -> str:
        return self.kind if self.average is None else f"{self.kind}_{self.average}"


ITSELF, MASTER = Part("itself"), Part("master")


class Role(str, Enum):
    """What an operation is in its block."""

    SELF_ATTN_QKV = "self_attn.qkv"
    SELF_ATTN_OUT = "self_attn.out"
    CROSS_ATTN_Q = "cross_attn.q"
    CROSS_ATTN_KV = "cross_attn.kv"
    CROSS_ATTN_OUT = "cross_attn.out"
    FFN_UP = "ffn.up"
    FFN_DOWN = "ffn.down"
    MODULATION = "modulation"
    ATTENTION = "attention"
    EMBED = "embed"
    HEAD = "head"

    def __str__(self) -> str:
        return self.value


class Extrapolation(str, Enum):
    """How a residual is foretold from the last two that were kept."""

    MEASURED = "measured"
    """Anywhere between the two below: as far along as would have been best the last time that the truth was seen."""
    CONSTANT = "constant"
    LINEAR = "linear"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Reuse:
    """Leave to add what a block added in earlier steps, foretold for the noise of this one, instead of running it.

    Attributes:
        bound: what the foretold error may come to since the block last ran, as a share of the finished clip: the error
            relative to the block's output, weighed by what it does to the clip (`tadp.runtime.track.weight`). 0 never
            reuses, and keeps what later stages reuse; infinity reuses whenever `longest` lets it.
        longest: how many steps in a row.
        extrapolation: how.

    Raises:
        ValueError: for a bound below 0 or that is no number, and for `longest` below 1.
    """

    bound: float
    longest: int = 1
    extrapolation: Extrapolation = Extrapolation.MEASURED

    def __post_init__(self) -> None:
        object.__setattr__(self, "extrapolation", Extrapolation(self.extrapolation))
        if not self.bound >= 0:
            raise ValueError(f"the bound of reuse must be at least 0, got {self.bound}")
        if self.longest < 1:
            raise ValueError(f"reuse lasts at least one step, got longest={self.longest}")

    def __str__(self) -> str:
        bound = f"{self.bound:g}" if float(f"{self.bound:g}") == self.bound else repr(self.bound)
        bound = bound.replace("e+", "e")  # a plus parts the items of a recipe
        longest = "" if self.longest == 1 else f"+longest:{self.longest}"
        how = "" if self.extrapolation is Extrapolation.MEASURED else f"+extrapolation:{self.extrapolation}"
        return f"reuse:{bound}{longest}{how}"


_OF_REUSE = ("reuse", "longest", "extrapolation")


@dataclass(frozen=True)
class Recipe:
    """The level of every role of one piece: `default`, but for the roles that `overrides` names.

    The attention products stay at 16 bits unless an override names them (SPEC A5). Raises ValueError where a linear
    layer's level is one of attention alone.
    """

    default: Level = L16
    overrides: tuple[tuple[Role, Level], ...] = ()
    reuse: Reuse | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "overrides", tuple(sorted(self.overrides)))
        levels = (self.default, *(level for role, level in self.overrides if role is not Role.ATTENTION))
        if sparse := [level for level in levels if level.is_sparse]:
            raise ValueError(f"{sparse[0]} is a level of the attention products, not of linear layers")

    @staticmethod
    def parse(text: str) -> "Recipe":
        """Read what `str` writes, such as "8", "8+attention:8" or "8+reuse:0.01+longest:2".

        Raises:
            ValueError: for an unknown level or role, and for what cannot be read of reuse.
        """
        default, *others = text.split("+")
        pairs = [other.partition(":")[::2] for other in others]
        settings = {name: value for name, value in pairs if name in _OF_REUSE}
        overrides = tuple(_override(role, level) for role, level in pairs if role not in _OF_REUSE)
        return Recipe(Level.parse(default), overrides, _reuse(settings))

    @cached_property
    def running(self) -> "Recipe":
        """What runs where the piece does run."""
        return self if self.reuse is None else Recipe(self.default, self.overrides)

    @cached_property
    def without_masters(self) -> "Recipe":
        """The same with weights at 8 bits where they were at 16; activations stay."""
        overrides = tuple(
            (role, level if role is Role.ATTENTION else level.without_master) for role, level in self.overrides
        )
        return Recipe(self.default.without_master, overrides, self.reuse)

    def __getitem__(self, role: Role) -> Level:
        return dict(self.overrides).get(role, L16 if role is Role.ATTENTION else self.default)

    def has(self, level: Level) -> bool:
        """Whether any role of a linear layer is at a level."""
        return self.default == level or any(found == level for role, found in self.overrides if role != Role.ATTENTION)

    def __str__(self) -> str:
        reuse = [] if self.reuse is None else [str(self.reuse)]
        return "+".join([str(self.default), *(f"{role}:{level}" for role, level in self.overrides), *reuse])


def _override(role: str, level: str) -> tuple[Role, Level]:
    """A role with its level. Of attention either may be left out: "attention" is at 8, "sparse25" is attention's."""
    if role.startswith(("sparse", "mass")) and not level:
        role, level = Role.ATTENTION, role
    if role not in list(Role):
        raise ValueError(f"unknown role {role!r}; valid roles are {', '.join(Role)}")
    return Role(role), Level.parse("8" if role == Role.ATTENTION and not level else level)


def _reuse(settings: Mapping[str, str]) -> Reuse | None:
    """Reuse from what stands in the name of a recipe; None where nothing does."""
    if not settings:
        return None
    if "reuse" not in settings:
        raise ValueError(f"{', '.join(settings)} without reuse: write reuse:BOUND")
    try:
        bound, longest = float(settings["reuse"]), int(settings.get("longest", 1))
    except ValueError:
        raise ValueError(f"reuse is written reuse:BOUND+longest:STEPS, not {dict(settings)}") from None
    return Reuse(bound, longest, Extrapolation(settings.get("extrapolation", Extrapolation.MEASURED)))


@dataclass(frozen=True)
class Plan:
    """The recipe of every piece, by the piece's name, in the order in which pieces run.

    Attributes:
        recipes: by piece.
        reasons: why, piece by piece, where the policy tells; plans are equal whatever the reasons.
        guidance: when the forward without the prompt need not run, as far as classifier-free guidance has one; None: it
            always runs.
    """

    recipes: tuple[tuple[str, Recipe], ...] = ()
    reasons: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    guidance: Reuse | None = None

    @staticmethod
    def of(recipes: Mapping[str, Recipe] | Iterable[tuple[str, Recipe]]) -> "Plan":
        return Plan(tuple(dict(recipes).items()))

    def replaced(self, piece: str, recipe: Recipe) -> "Plan":
        """The same plan but for one piece."""
        recipes = tuple((name, recipe if name == piece else found) for name, found in self.recipes)
        return Plan(recipes, guidance=self.guidance)

    def because(self, reasons: Mapping[str, str] | Iterable[tuple[str, str]]) -> "Plan":
        """The same plan with a reason for each piece that is named."""
        return replace(self, reasons=tuple(dict(reasons).items()))

    def why(self, piece: str) -> str:
        """Why a piece has its recipe; "" where the policy does not say."""
        return dict(self.reasons).get(piece, "")

    def __getitem__(self, piece: str) -> Recipe:
        for name, recipe in self.recipes:
            if name == piece:
                return recipe
        raise KeyError(piece)

    def __iter__(self) -> Iterator[tuple[str, Recipe]]:
        return iter(self.recipes)

    def __len__(self) -> int:
        return len(self.recipes)

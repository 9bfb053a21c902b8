"""Which transformers of diffusers follow a policy, and how far is each from its eager self at 16, 8 and 4 bits?

Every class that the installed diffusers exports is built in a tiny configuration with random weights, run eagerly in
float32, compiled, and run at each level. `python -m bench.models.zoo` also writes the table of docs/models.md.
"""

import inspect
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from tqdm import tqdm

import tadp
from bench.record import parser, record, versions
from tadp.calibration.journal import Journal
from tadp.demo.tiny import Tiny, exported, tiny_of
from tadp.families import family_of
from tadp.precision import Role
from tadp.version import VERSION
from tadp.writing import replacing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
WORK = Path("out") / "zoo.jsonl"
POLICIES = ("static:16", "static:8", "static:4")
MOST_AT_16 = 1e-5
"""Compiled code adds in another order; in float32 sums of a few hundred terms then differ by less."""
MOST_AT_8 = 0.1

INTRODUCTION = """# Models

This page says which transformers tadp compiles, and what was verified for each.
`python -m bench.models.zoo` writes it: every transformer class that diffusers exports is built in a tiny configuration
with random weights, run eagerly in float32, compiled, and run at 16, 8 and 4 bits.

A class with a declared family has its blocks, the roles of its layers and its timestep declared in `tadp/families/`.
The others follow general rules for module trees and names of layers.
CONTRIBUTING says how to add a family.

A class holds when static:16 is within 1e-5 of the eager model, static:8 differs by more than nothing and less than
0.1, static:4 by more than static:8, switching policies recompiles nothing, and every linear layer of a block that
stays at 16 bits has a reason.
Errors are relative: the norm of the difference over the norm of the eager output.
"""


@dataclass(frozen=True)
class Verdict:
    """What was found for one class.

    Attributes:
        name: the class.
        family: the declared family, or "generic".
        blocks: how many blocks were found.
        at_4: linear layers of blocks that static:4 runs at 4 bits.
        layers: all linear layers of blocks.
        errors: relative error by policy.
        torch_error: of plain torch.compile, measured where static:16 is too far from eager; None elsewhere.
        recompiled: graphs that were captured anew when policies were switched.
        reasons: how many layers stay at 16 bits for each reason.
        unexplained: layers that stay at 16 bits without a reason, or that explain does not list.
        failure: what went wrong; "" where everything ran.
        seconds: of all of it.
    """

    name: str
    family: str = ""
    blocks: int = 0
    at_4: int = 0
    layers: int = 0
    errors: Mapping[str, float] | None = None
    torch_error: float | None = None
    recompiled: int = 0
    reasons: Mapping[str, int] | None = None
    unexplained: tuple[str, ...] = ()
    failure: str = ""
    seconds: float = 0.0

    @property
    def faults(self) -> tuple[str, ...]:
        """What does not hold; nothing where the class is fine."""
        if self.failure or self.errors is None:
            return (self.failure or "was not run",)
        at_16, at_8, at_4 = (self.errors[policy] for policy in POLICIES)
        found = {
            f"static:16 is {at_16:.1e} from eager, torch.compile alone {self.torch_error}": not at_16 < MOST_AT_16,
            f"static:8 is {at_8:.1e} from eager": not 0 < at_8 < MOST_AT_8,
            "static:4 is no further from eager than static:8": not at_4 > at_8,
            f"switching captured {self.recompiled} graphs": self.recompiled > 0,
            f"no reason for {', '.join(self.unexplained[:3])}": bool(self.unexplained),
        }
        return tuple(fault for fault, holds in found.items() if holds)


def main() -> None:
    """Try all classes, or those that are named; print a table, write JSON, and write the page where all were tried."""
    options = parser(__doc__ or "")
    options.add_argument("classes", nargs="*", help="classes to try (default: all that diffusers exports)")
    options.add_argument("--short", action="store_true", help="one class of each declared family")
    options.add_argument("--work", type=Path, default=WORK, help=f"verdicts so far, for runs that go on ({WORK})")
    arguments = options.parse_args()
    names = arguments.classes or (_one_of_each_family() if arguments.short else exported())
    verdicts = _tried_in_turn(names, arguments.work)
    record("zoo", [_row(verdict) for verdict in verdicts], arguments.json, holding=_holding(verdicts))
    if not arguments.classes and not arguments.short:
        with replacing(PAGE) as path:
            path.write_text("\n".join(page(verdicts)) + "\n")


def _tried_in_turn(names: Sequence[str], work: Path) -> list[Verdict]:
    """A verdict for each class, from the file of an earlier run where it is there; remove the file to try all anew."""
    known: dict[str, Verdict] = {}

    def take(content: dict[str, Any]) -> None:
        verdict = Verdict(**{**content, "unexplained": tuple(content["unexplained"])})
        known[verdict.name] = verdict

    journal = Journal(work, {"tadp": VERSION, **versions()}, take)
    for name in tqdm(names, desc="trying models", unit="model"):
        if name not in known:
            journal.add(asdict(verdict_of(tiny_of(name))))
    return [known[name] for name in names]


def verdict_of(tiny: Tiny) -> Verdict:
    """Try one class; whatever it raises is part of the verdict."""
    torch._dynamo.reset()
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _tried(tiny, started)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {str(error).splitlines()[0]} ({Path(place.filename).name}:{place.lineno})"
        return Verdict(tiny.name, failure=failure, seconds=time.perf_counter() - started)


def _tried(tiny: Tiny, started: float) -> Verdict:
    reference = run(tiny.model(), tiny)
    model = tiny.model()
    family = family_of(model)
    compiled: Any = tadp.compile(model, policy=POLICIES[0])
    errors = {}
    for policy in POLICIES:
        compiled.tadp.use(policy)
        errors[policy] = ((run(compiled, tiny) - reference).norm() / reference.norm()).item()
    captured = counters["stats"]["unique_graphs"]
    for policy in POLICIES:
        compiled.tadp.use(policy)
        run(compiled, tiny)
    recompiled = counters["stats"]["unique_graphs"] - captured
    torch_error = None
    if errors[POLICIES[0]] >= MOST_AT_16:
        torch._dynamo.reset()
        plain = run(torch.compile(tiny.model(), dynamic=False), tiny)
        torch_error = ((plain - reference).norm() / reference.norm()).item()
    blocks = compiled.tadp.blocks
    rows = [row for row in compiled.tadp.layers() if row.piece in blocks and row.role is not Role.ATTENTION]
    at_16 = [row for row in rows if str(row.level) == "16"]
    unlisted = set(_linears(compiled, blocks)) - {row.layer for row in rows}
    return Verdict(
        name=tiny.name,
        family=family.name,
        blocks=len(blocks),
        at_4=sum(str(row.level) == "4" for row in rows),
        layers=len(rows),
        errors=errors,
        torch_error=torch_error,
        recompiled=recompiled,
        reasons=dict(Counter(row.reason for row in at_16 if row.reason)),
        unexplained=tuple(sorted(unlisted | {row.layer for row in at_16 if not row.reason})),
        seconds=time.perf_counter() - started,
    )


def run(model: torch.nn.Module, tiny: Tiny) -> torch.Tensor:
    """All floating numbers that one forward returns, one after the other, in float64."""
    inputs = tiny.inputs(torch.Generator().manual_seed(0))
    if "return_dict" in inspect.signature(model.forward).parameters:
        inputs["return_dict"] = False
    with torch.no_grad():
        return torch.cat([tensor.double().flatten() for tensor in _tensors(model(**inputs))])


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def _linears(model: torch.nn.Module, blocks: Sequence[str]) -> Iterator[str]:
    inside = tuple(f"{block}." for block in blocks)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name.startswith(inside):
            yield name


def _one_of_each_family() -> list[str]:
    from tadp.families import FAMILIES

    known = set(exported())
    return [next(name for name in family.classes if name in known) for family in FAMILIES]


def _holding(verdicts: Sequence[Verdict]) -> str:
    return f"{sum(not verdict.faults for verdict in verdicts)} of {len(verdicts)}"


def _row(verdict: Verdict) -> dict[str, object]:
    errors = verdict.errors or {}
    stays = "; ".join(f"{count}: {reason}" for reason, count in (verdict.reasons or {}).items())
    return {
        "class": verdict.name,
        "family": verdict.family,
        "blocks": verdict.blocks,
        "at 4 bits": f"{verdict.at_4} of {verdict.layers}",
        **{policy: f"{errors[policy]:.1e}" if policy in errors else "" for policy in POLICIES},
        "layers at 16 bits": stays,
        "faults": "; ".join(verdict.faults),
    }


def page(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """The lines of docs/models.md."""
    rows = [_row(verdict) for verdict in verdicts]
    known = versions()
    yield INTRODUCTION
    yield f"{_holding(verdicts)} classes hold, with diffusers {known['diffusers']} and torch {known['torch']}."
    yield ""
    yield "| " + " | ".join(rows[0]) + " |"
    yield "| " + " | ".join("---" for _ in rows[0]) + " |"
    for row in rows:
        yield "| " + " | ".join(str(value).replace("|", "\\|") for value in row.values()) + " |"


if __name__ == "__main__":
    main()

"""Puts seeded faults into a copy of the repository, one after the other, and says which the tests find.

Before a fault counts, its tests have to pass on the unchanged copy. Every outcome is kept in the folder of the copy, so
an interrupted run goes on: a fault is tried again only when it or its kernel has changed, or its tests have and did not
find it before.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from bench.kernels.mutations.fault import KINDS, Fault, Selection, read_faults
from bench.kernels.mutations.report import Results, summary
from bench.kernels.mutations.tree import Tree, copy_tree
from bench.kernels.mutations.trial import SURVIVED, Outcome, run_tests, try_fault

ROOT = Path(__file__).parents[3]


def main() -> None:
    """Try the chosen faults and print the tables."""
    chosen = _options().parse_args()
    faults = [
        fault
        for fault in read_faults()
        if (not chosen.only or fault.name in chosen.only) and (not chosen.kind or fault.kind in chosen.kind)
    ]
    if chosen.only and len(faults) < len(set(chosen.only)):
        raise SystemExit(f"no such fault, or not of this kind: {set(chosen.only) - {fault.name for fault in faults}}")
    if chosen.list:
        for fault in faults:
            print(f"{fault.name}  [{fault.kind}]  {fault.file}\n    {fault.tests}")
        return
    outcomes = run(faults, chosen.work, chosen.limit)
    print(summary(outcomes))
    if chosen.json is not None:
        rows = [{"name": fault.name, "kind": fault.kind, **outcome._asdict()} for fault, outcome in outcomes]
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def run(faults: list[Fault], work: Path, limit: float, source: Path = ROOT) -> list[tuple[Fault, Outcome]]:
    """The outcome of every fault; what is known already is not tried again.

    Raises:
        RuntimeError: where tests fail on the unchanged copy.
    """
    work.mkdir(parents=True, exist_ok=True)
    results = Results(work / "results.jsonl")
    tree = copy_tree(source, work)

    def known(fault: Fault) -> Outcome | None:
        return results.of(fault.name, *_digests(tree, fault))

    missing = [fault for fault in faults if known(fault) is None]
    if missing and (tree.root / "setup.py").is_file():
        tree.build()
        tree.keep()
    with tqdm(total=len(faults), initial=len(faults) - len(missing), unit="fault") as progress:
        for fault in missing:
            progress.set_postfix_str(fault.name)
            _check_unchanged(tree, fault.tests, results, limit)
            results.add(fault.name, *_digests(tree, fault), try_fault(tree, fault, limit))
            progress.update()
    return [(fault, outcome) for fault in faults if (outcome := known(fault)) is not None]


def _digests(tree: Tree, fault: Fault) -> tuple[str, str]:
    """What stands for the fault in its kernel, and for its tests with what they share."""
    return fault.digest(tree.root), tree.digest((str(Path(fault.tests.file).parent),))


def _check_unchanged(tree: Tree, tests: Selection, results: Results, limit: float) -> None:
    """That tests pass where there is no fault: once for each selection, as long as neither they nor a kernel change."""
    name = f"unchanged: {tests}"
    digest, file = tree.digest(("csrc", "tadp/kernels")), tree.digest((tests.file,))
    outcome = results.of(name, digest, file)
    if outcome is None:
        outcome = run_tests(tree.root, tests, limit)
        results.add(name, digest, file, outcome)
    if outcome.outcome != SURVIVED:
        raise RuntimeError(f"{tests} does not pass without a fault: {outcome.by}")


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", metavar="NAME", help="these faults")
    options.add_argument("--kind", nargs="+", choices=list(KINDS), help="faults of these kinds")
    options.add_argument("--list", action="store_true", help="print the faults and their tests, and try none")
    options.add_argument("--work", type=Path, default=Path("out/mutations"), help="folder of the copy and of outcomes")
    options.add_argument("--limit", type=float, default=400.0, help="seconds that the tests of a fault may take")
    options.add_argument("--json", type=Path, help="write the outcomes to this file")
    return options


if __name__ == "__main__":
    main()

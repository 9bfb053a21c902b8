"""Write docs/results.md from bench/results/*.json: every figure with the command that printed it.

A benchmark may have several results, of other machines or sizes: NAME.json, and NAME@VARIANT.json.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path

from bench.record import cell
from tadp.writing import replacing

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("kernels", "models", "quality")
ORDER = (
    *("alignment", "direction", "few_steps", "few_step_levels", "signals", "text_groups", "bert_head", "scoring"),
    *(
        "accuracy",
        "layers",
        "compensation",
        "heavy_tails",
        "formats",
        "widths",
        "planes",
        "groups",
        "balance",
        "tiles",
        "channels",
    ),
    *("probes",),
    *(
        "compile_time",
        "start",
        "shapes",
        "files",
        "adapters",
        "switching",
        "dispatch",
        "step",
        "linear",
        "nonlinearity",
        "attention",
        "rounding",
    ),
    *("sparse_attention", "sparse_error"),
    *(
        "reuse",
        "product",
        "row_widths",
        "rotation",
        "isa",
        "host_time",
        "gpu",
        "gpu_attention",
        "gpu_dry_run",
        "memory",
    ),
)
INTRODUCTION = """# Results

Written by `python -m bench.page` from `bench/results/*.json`. `make bench` runs all of it again. Timings are medians of
interleaved runs; on a shared machine only ratios within one table mean anything. What follows an @ in a title is
another machine, size or model: step@4096-tokens ran with `--tokens 4096`, alignment@few-steps with
`--few-steps`. Some runs were shortened: accuracy and reuse with `--clips 5`, the latter in bfloat16, accuracy@sparse
with `--clips 2` and policies of its own, linear with `--seconds 2`, widths with `--prompts 12`, linear@avx2 and
attention@avx2 with `--short`, what ends in @avxvnni with `TADP_CPU_ISA=avxvnni`,
layers@rotated with `--rotate`. What accuracy says of `complexity` is of the
default before decision 0018. Whether adapting pays has a page of its own: [results/proof.md](results/proof.md).
"""


def main() -> None:
    """Write the page; benchmarks that were not run are left out."""
    sections = [INTRODUCTION]
    for name in ORDER:
        results = ROOT / "bench" / "results"
        for path in (results / f"{name}.json", *sorted(results.glob(f"{name}@*.json"))):
            if path.exists():
                sections.append(section(path.stem, json.loads(path.read_text())))
    with replacing(ROOT / "docs" / "results.md") as temporary:
        temporary.write_text("\n".join(sections))


def section(title: str, result: Mapping[str, object]) -> str:
    """One result: its question, its command, where and when it ran, its table and what else it found."""
    name = title.partition("@")[0]
    rows, machine, versions = result["rows"], result["machine"], result["versions"]
    assert isinstance(rows, list)
    assert isinstance(machine, dict)
    assert isinstance(versions, dict)
    module = module_of(name)
    question = (importlib.import_module(module).__doc__ or name).strip()
    columns = list(rows[0])
    lines = [f"## {title}", "", question, ""]
    lines += [f"`python -m {module}`, {result['date']}, {_machine(machine)}, torch {versions['torch']}.", ""]
    lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(cell(row[column]) for column in columns) + " |" for row in rows]
    known = {"name", "date", "machine", "versions", "rows"}
    facts = [f"- {key.replace('_', ' ')}: {_fact(value)}" for key, value in result.items() if key not in known]
    return "\n".join([*lines, "", *facts, ""])


def module_of(name: str) -> str:
    """The benchmark that writes results of a name.

    Raises:
        LookupError: where no folder holds one.
    """
    for folder in FOLDERS:
        if (ROOT / "bench" / folder / f"{name}.py").exists():
            return f"bench.{folder}.{name}"
    raise LookupError(f"no folder of bench ({', '.join(FOLDERS)}) has a benchmark {name}.py")


def _machine(machine: Mapping[str, object]) -> str:
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    isa = machine["isa"]
    assert isinstance(isa, list)
    return f"{machine['cpu']}, {machine['cores']} cores ({', '.join(isa)}), {machine['threads']} threads{gpu}"


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    return cell(value)


if __name__ == "__main__":
    main()

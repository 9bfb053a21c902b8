"""What does a block of Wan2.1-14B become on a GPU: which kernels, and what do they store? It takes no GPU.

A block with tensors that have no memory goes through tadp's capture and passes and through Inductor, which compiles for
an H100 that is stated, not there. Nothing runs, so nothing is timed. `make gpu-dry-run` calls this in an environment
with a CUDA build of torch.
"""

import operator
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import fx
from torch._inductor.graph import GraphLowering
from torch._subclasses import FakeTensorMode

from bench.kernels.generated import Launch, launches_of
from bench.kernels.own_launches import own_launches
from bench.kernels.stated_block import FRAMES, HEIGHT, WIDTH, captured_block
from bench.kernels.stated_gpu import StatedGpu, stated
from bench.record import parser, record
from tadp import passes
from tadp.compiler.variants import Variants
from tadp.errors import PrecisionFallbackWarning
from tadp.passes.attention import arguments_of
from tadp.passes.operations import ATTENTION
from tadp.policy import parse
from tadp.precision import Recipe

NAME = "gpu_dry_run: kernels of a block of Wan2.1-14B on an H100 that is not there"
RESULT = Path(__file__).resolve().parents[1] / "results" / "gpu_dry_run.json"


class Setting(NamedTuple):
    """One row.

    Attributes:
        name: as it stands in the table.
        policy: whose only recipe the block runs at.
        options: of Inductor, beside those of tadp.
    """

    name: str
    policy: str
    options: tuple[tuple[str, object], ...] = ()


SETTINGS = (
    Setting("static:8", "static:8"),
    Setting("complexity, late steps", "static:8+attention"),
    Setting("static:16", "static:16"),
    Setting("static:w8a16", "static:w8a16"),
    # Inductor's own: what four reads make is stored, not computed again where it is read again.
    Setting("static:8, realize_reads_threshold=4", "static:8", (("realize_reads_threshold", 4),)),
)

MATMULS = ("mm", "addmm", "bmm", "baddbmm")
NORMS = 3
"""Of a block of Wan: before self-attention, cross-attention and the feed-forward layer; two of them are modulated."""


@dataclass
class Seen:
    """What came by while one variant was compiled.

    Attributes:
        sources: modules that Inductor wrote.
        nodes: calls in the graph that these are made of.
        configurations: kernels that were compiled down to machine code, once for each configuration.
    """

    sources: list[str] = field(default_factory=list)
    nodes: list[fx.Node] = field(default_factory=list)
    configurations: int = 0

    def count(self, name: str, configurations: int) -> None:
        """Told by Inductor's kernels when they are compiled."""
        self.configurations += configurations

    def keep(self, graph: fx.Graph) -> None:
        """Inductor's last pass."""
        self.nodes += [node for node in graph.nodes if node.op == "call_function"]


def main() -> int:
    """Compile all settings and report; gives the exit code."""
    chosen = parser(__doc__).parse_args()
    if torch.version.cuda is None:
        print(
            "bench.kernels.gpu_dry_run needs a CUDA build of torch, and this one is "
            f"{torch.__version__}: run `make gpu-dry-run`, which installs one apart",
            file=sys.stderr,
        )
        return 2
    gpu = StatedGpu()
    rows, wrong = [], []
    for setting in SETTINGS:
        print(setting.name, flush=True)
        # Each in a process of its own: what Inductor writes depends on what it has compiled in its process before.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            row, broken = process.submit(dry_run, setting, gpu).result()
        rows.append(row)
        wrong += [f"{setting.name}: {each}" for each in broken]
    facts = {
        "stated GPU": f"{gpu.name}, {gpu.architecture}; nothing ran on one",
        "tokens": FRAMES * HEIGHT * WIDTH,
        "what does not hold": "; ".join(wrong) or "nothing",
    }
    record(NAME, rows, chosen.json or RESULT, **facts)
    return 1 if wrong else 0


def dry_run(setting: Setting, gpu: StatedGpu) -> tuple[dict[str, object], list[str]]:
    """The row of one setting, and what does not hold of it."""
    recipe = parse(setting.policy).recipes()[0]
    seen = Seen()
    with ExitStack() as stack:
        stack.enter_context(stated(gpu, seen.count))
        stack.enter_context(torch.no_grad())
        with FakeTensorMode():
            pieces = captured_block(torch.device("cuda"))
        stack.enter_context(mock.patch.object(GraphLowering, "save_output_code", staticmethod(seen.sources.append)))
        stack.enter_context(mock.patch.object(passes, "lower", _lower_with_flash_attention(passes.lower)))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error", PrecisionFallbackWarning)
        own_options = {"force_disable_caches": True, "compile_threads": 1, "post_grad_custom_post_pass": seen.keep}
        variants = Variants({**own_options, **dict(setting.options)}, precompile=False)
        for piece in pieces:
            variants.variant(piece, recipe, probing=False)
        decided = [layer for piece in pieces for layer in variants.layers(piece, recipe)]
        own = own_launches(seen.nodes)
    found = [launch for source in seen.sources for launch in launches_of(source)]
    row = {"setting": setting.name, **_counts(found, seen, own)}
    return row, [*broken(found, seen, recipe), *(f"{each.layer}: {each.reason}" for each in decided if each.reason)]


def _counts(found: list[Launch], seen: Seen, own: int) -> dict[str, object]:
    """What stands in the table."""
    fused = [launch for launch in found if launch.kernel.normalizes and launch.kernel.quantizes]
    alone = [launch for launch in found if launch.kernel.quantizes and not launch.kernel.normalizes]
    scratch = [launch for launch in fused if launch.stored_bytes(launch.kernel.scratch)]
    types = {launch.kernel.type_of(name) for launch in scratch for name in launch.kernel.scratch}
    return {
        "Triton kernels": len(found) + own,
        "by Inductor": len(found),
        "by tadp": own,
        "16-bit products": len(list(_products(seen.nodes))),
        "norm and quantizer in one": len(fused),
        "quantizers alone": len(alone),
        "copies of codes": sum(launch.copies_of_codes for launch in found),
        "stored between norm and codes": ", ".join(sorted(types)) or None,
        "MB of it": sum(launch.stored_bytes(launch.kernel.scratch) for launch in fused) / 1e6,
        "MB stored by Inductor's kernels": sum(launch.stored_bytes() for launch in found) / 1e6,
        "configurations compiled": seen.configurations,
    }


def broken(found: list[Launch], seen: Seen, recipe: Recipe) -> Iterator[str]:
    """What does not hold though it has to."""
    if not found:
        yield "Inductor wrote no kernel"
    if any("float64" in source or "fp64" in source for source in seen.sources):
        yield "a kernel computes in float64"
    for node in seen.nodes:
        values = node.meta.get("val")
        if any(value.dtype == torch.float64 for value in _tensors(values)):
            yield f"{node.target} gives float64"
    for node in _products(seen.nodes):
        types = {value.dtype for argument in node.all_input_nodes for value in _tensors(argument.meta.get("val"))}
        if not types <= {torch.bfloat16, torch.float16}:
            yield f"{node.target} multiplies {', '.join(sorted(map(str, types)))}"
    if recipe.default.activation == 8:
        norms = [launch for launch in found if launch.kernel.normalizes]
        if len(norms) != NORMS or not all(launch.kernel.quantizes for launch in norms):
            yield f"of {len(norms)} kernels with a norm {sum(each.kernel.quantizes for each in norms)} write codes"


def _products(nodes: list[fx.Node]) -> Iterator[fx.Node]:
    """Matrix products by cuBLAS."""
    for node in nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.name.split("::")[1] in MATMULS:
            yield node


def _tensors(values: object) -> list[torch.Tensor]:
    several = values if isinstance(values, (tuple, list)) else (values,)
    return [value for value in several if isinstance(value, torch.Tensor)]


def _lower_with_flash_attention(lower: Any) -> Any:
    """16-bit attention by flash attention, which torch takes on an H100: to choose by itself it asks the driver."""

    def lowered(graph: fx.GraphModule, *arguments: Any) -> Any:
        for node in graph.graph.nodes:
            if node.op != "call_function" or node.target not in ATTENTION:
                continue
            given = arguments_of(node)
            assert given.mask is None
            with graph.graph.inserting_before(node):
                flash = torch.ops.aten._scaled_dot_product_flash_attention.default
                called = graph.graph.call_function(flash, (given.q, given.k, given.v), {"scale": given.scale})
                node.replace_all_uses_with(graph.graph.call_function(operator.getitem, (called, 0)))
            graph.graph.erase_node(node)
        graph.recompile()
        return lower(graph, *arguments)

    return lowered


if __name__ == "__main__":
    sys.exit(main())

"""How long does a saved model take to load, and how high does memory rise, against loading and packing the original?

A Wan transformer of 500 MB at 16 bits; each way in a process of its own, with the files in the system's cache.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

import tadp
import tadp.compiler  # whose import is no part of loading
from bench.record import parser, record

ROUNDS = 3


def main() -> None:
    """Seconds and peak memory of each way to a compiled model."""
    options = parser(__doc__)
    options.add_argument("--way", choices=WAYS, help="run one way, here, and print what it took")
    options.add_argument("--directory", type=Path, help="where the files lie, for --way")
    chosen = options.parse_args()
    if chosen.way:
        print(json.dumps(measured(WAYS[chosen.way], chosen.directory)))
        return
    with tempfile.TemporaryDirectory() as directory:
        sizes = write(Path(directory))
        rows = []
        for _ in range(ROUNDS):
            for way in WAYS:
                command = [sys.executable, "-m", "bench.models.files", "--way", way, "--directory", directory]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                rows.append({"way": way, **json.loads(out.splitlines()[-1])})
        best = [min((row for row in rows if row["way"] == way), key=lambda row: row["seconds"]) for way in WAYS]
        record("files", best, chosen.json, **sizes)


def write(directory: Path) -> dict[str, float]:
    """Write the model at 16 bits and packed; returns megabytes of both, of its planes and of its largest layer."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=8, attention_head_dim=128, ffn_dim=4096, num_layers=12, text_dim=1024
    )
    model = model.bfloat16().eval()
    layer = max(module.weight.nbytes for module in model.modules() if isinstance(module, torch.nn.Linear))
    model.save_pretrained(directory / "plain")
    tadp.save(
        tadp.compile(WanTransformer3DModel.from_pretrained(directory / "plain", torch_dtype=torch.bfloat16)),
        directory / "packed",
    )
    size = {name: sum(path.stat().st_size for path in (directory / name).iterdir()) for name in ("plain", "packed")}
    return {"plain, MB": size["plain"] / 1e6, "packed, MB": size["packed"] / 1e6, "largest layer, MB": layer / 1e6}


def read(directory: Path) -> object:
    """Reading all bytes of the packed files."""
    return [path.read_bytes() for path in (directory / "packed").iterdir()]


def pack(directory: Path) -> object:
    """from_pretrained, and packing."""
    model = WanTransformer3DModel.from_pretrained(directory / "plain", torch_dtype=torch.bfloat16)
    return tadp.compile(model, policy="static:8", calibration=None)


def load(directory: Path) -> object:
    """tadp.load."""
    return tadp.load(directory / "packed", policy="static:8")


def load_narrow(directory: Path) -> object:
    """tadp.load at 4 bits."""
    return tadp.load(directory / "packed", policy="static:4", widths=4)


WAYS: Mapping[str, Callable[[Path], object]] = {
    "read the files": read,
    "from_pretrained and pack": pack,
    "tadp.load": load,
    "tadp.load, 4 bits": load_narrow,
}


def measured(way: Callable[[Path], object], directory: Path) -> dict[str, float]:
    """Seconds, and how far memory rose."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what there is now
    before = _peak()
    started = time.perf_counter()
    kept = way(directory)
    seconds = time.perf_counter() - started
    found = {"seconds": seconds, "memory, MB": (_peak() - before) / 1e6}
    del kept
    return found


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return next(1024.0 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()

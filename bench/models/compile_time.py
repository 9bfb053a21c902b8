"""How long does compiling take, against plain torch.compile and against diffusers' compile_repeated_blocks?

Every case runs in a process of its own with empty caches. The first forward counts, because compiling happens there.
"""

import json
import os
import subprocess
import sys
import tempfile

from bench.record import parser, record

BLOCKS = 30
CASES = {
    "torch.compile, whole model": "plain",
    "compile_repeated_blocks": "repeated",
    "tadp static:8 (one variant)": "static:8",
    "tadp complexity (all variants)": "complexity",
}


def main() -> None:
    """Measure all cases, or one of them in this very process."""
    options = parser(__doc__)
    options.add_argument("--case", help="measure this case in this process")
    options.add_argument("--blocks", type=int, default=BLOCKS)
    options.add_argument("--repeats", type=int, default=1)
    chosen = options.parse_args()
    if chosen.case:
        print(json.dumps(measure(chosen.case, chosen.blocks)))
        return
    rows: list[dict[str, object]] = []
    for name, case in CASES.items():
        runs = [_in_process(case, chosen.blocks) for _ in range(chosen.repeats)]
        best = min(runs, key=lambda run: run["seconds"])
        rows.append({"case": name, **best})
    plain, repeated = float(rows[0]["seconds"]), float(rows[1]["seconds"])  # type: ignore[arg-type]
    record(
        "compile_time",
        rows,
        chosen.json,
        blocks=chosen.blocks,
        all_variants_over_whole_model=round(float(rows[3]["seconds"]) / plain, 3),  # type: ignore[arg-type]
        one_variant_over_repeated_blocks=round(float(rows[2]["seconds"]) / repeated, 3),  # type: ignore[arg-type]
    )


def measure(case: str, blocks: int) -> dict[str, object]:
    """Seconds from the call to compile to the end of the first forward."""
    import time

    import torch
    from diffusers import WanTransformer3DModel

    import tadp

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=16,
        out_channels=16,
        text_dim=256,
        freq_dim=256,
        ffn_dim=1024,
        num_layers=blocks,
    )
    model = model.bfloat16().eval().requires_grad_(False)
    inputs = {
        "hidden_states": torch.randn(1, 16, 3, 16, 16).bfloat16(),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.randn(1, 64, 256).bfloat16(),
        "return_dict": False,
    }
    structures = None
    started = time.perf_counter()
    with torch.no_grad():
        if case == "plain":
            torch.compile(model, dynamic=False)(**inputs)
        elif case == "repeated":
            model.compile_repeated_blocks(dynamic=False)
            model(**inputs)
        else:
            tadp.compile(model, policy=case, calibration=None)(**inputs)
            structures = len({layer.structure for layer in model.tadp.layers() if "." in layer.piece})
    return {"seconds": round(time.perf_counter() - started, 2), "block structures": structures}


def _in_process(case: str, blocks: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as caches:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": caches, "TADP_CACHE_DIR": caches}
        command = [sys.executable, "-m", "bench.models.compile_time", "--case", case, "--blocks", str(blocks)]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(finished.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()

"""What an installed wheel must do: import, compile a tiny random Wan at 8 bits, and switch without compiling anew.

Run it by its path from outside the source tree: then the installed package is imported, not the source.
"""

import sys
import time
from importlib.metadata import version
from pathlib import Path

started = time.perf_counter()
import tadp  # noqa: E402  the import is what is timed

imported = time.perf_counter() - started

import torch  # noqa: E402
from diffusers import WanTransformer3DModel  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402


def main() -> int:
    """Run the checks and print what ran."""
    print(f"tadp {version('tadp')} from {Path(tadp.__file__).parent}, imported in {imported:.3f} s")
    print(f"torch {torch.__version__}, diffusers {version('diffusers')}, Python {sys.version.split()[0]}")
    inputs = {
        "hidden_states": torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        "encoder_hidden_states": torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(1)),
        "timestep": torch.tensor([500]),
        "return_dict": False,
    }
    with torch.no_grad():
        expected = model()(**inputs)[0]
    compiled = tadp.compile(model(), policy="static:8")
    error = distance(compiled(**inputs)[0], expected)
    print(compiled.tadp.explain())
    print(f"static:8 is {error:.4f} from eager, relative")
    compiled.tadp.use("static:16")
    compiled(**inputs)
    graphs = counters["stats"]["unique_graphs"]
    compiled.tadp.use("static:8")
    compiled(**inputs)
    assert counters["stats"]["unique_graphs"] == graphs, "switching compiled something"
    assert 0 < error < 0.1, "8 bits must differ from eager by more than nothing and by less than 0.1"
    print("passed")
    return 0


def model() -> torch.nn.Module:
    """A random Wan of two blocks, the same at each call."""
    torch.manual_seed(0)
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=32,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=128,
        num_layers=2,
        rope_max_seq_len=32,
    ).eval()


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """``||found - expected|| / ||expected||``."""
    return float((found - expected).norm() / expected.norm())


if __name__ == "__main__":
    sys.exit(main())

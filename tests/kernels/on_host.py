"""The CUDA kernels compiled for the host, and how their functions are called."""

import ctypes
import subprocess
from pathlib import Path

import torch

SOURCES = Path(__file__).resolve().parents[2] / "csrc" / "cuda"


def build(source: Path, library: Path, *flags: str) -> ctypes.CDLL:
    """Compile a file that includes the kernels into a shared library, and load it."""
    always = ["-std=c++20", "-O1", "-shared", "-fPIC", "-ffp-contract=off", f"-I{SOURCES}"]
    done = subprocess.run(
        ["g++", *always, *flags, "-o", str(library), str(source)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())

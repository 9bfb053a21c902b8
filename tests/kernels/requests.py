"""What the registry of kernels is asked for."""

from dataclasses import replace

import torch

from tadp.kernels.registry import Request, architecture_of
from tadp.precision import L8

REQUEST = Request(
    level=L8,
    tokens=1280,
    columns=1536,
    rows=1536,
    groups=0,
    dtype=torch.bfloat16,
    device="cpu",
    architecture=architecture_of(torch.device("cpu")),
)
ON_GPU = replace(REQUEST, device="cuda", architecture="sm_90")

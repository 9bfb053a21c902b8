"""Bounds on what products may be off by: those that `tadp doctor` holds kernels to."""

from tadp.doctor.product_bounds import (
    CPP,
    TRITON,
    cpp_weight_only_exact_and_bound,
    dequantized_bound,
    finished_bound,
    linear_bound,
    linear_exact_and_bound,
    plain_bound,
    weight_only_bound,
)

__all__ = [
    "CPP",
    "TRITON",
    "cpp_weight_only_exact_and_bound",
    "dequantized_bound",
    "finished_bound",
    "linear_bound",
    "linear_exact_and_bound",
    "plain_bound",
    "weight_only_bound",
]

"""Benchmarks of single operators and kernels."""

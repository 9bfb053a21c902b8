"""Benchmarks: one file per question, each runs its rival in the same process run. Results go to bench/results/."""

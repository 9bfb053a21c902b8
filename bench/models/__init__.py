"""Benchmarks of whole models: steps, switching, memory, signals."""

"""Benchmarks of what comes out: clips, scores, captions."""

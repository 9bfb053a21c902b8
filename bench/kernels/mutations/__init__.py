"""Seeded faults: do the tests notice when a kernel is wrong?

A fault is one small change of one place in a kernel, as a sloppy edit might make it, and the tests that ought to find
it. `python -m bench.kernels.mutations` puts each into a copy of the repository and runs those tests there.
"""

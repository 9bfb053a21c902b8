"""Checkpoints in the formats of other programs: reading them tensor by tensor, and writing them.

One file a format, each with what it reads and what it writes; `opening` finds the format of a file, `targets` plans
what a checkpoint becomes in another, and `writing` writes it.
"""

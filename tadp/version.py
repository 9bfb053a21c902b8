"""The version of tadp, written here and nowhere else."""

VERSION = "0.2.0"

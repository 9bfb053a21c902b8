"""What the operating system says about the processor."""

import functools
import platform
from pathlib import Path


def name() -> str:
    """The model, or the architecture where the system does not tell."""
    return _facts().get("model name") or platform.processor() or platform.machine()


def flags() -> frozenset[str]:
    """Features such as "avx2", as Linux calls them; nothing on other systems."""
    return frozenset((_facts().get("flags") or _facts().get("Features") or "").split())


def multiplies_bfloat16() -> bool:
    """Whether there are instructions that multiply bfloat16; without them it is slower than float32, several times."""
    return not flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


@functools.cache
def _facts() -> dict[str, str]:
    """What Linux says of the first core, by name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return facts

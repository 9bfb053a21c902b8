"""Names for the files of a run."""

import re
import unicodedata
from collections.abc import Sequence

MAX_SLUG = 60
"""Characters of a name taken from its prompt; file systems allow 255 bytes, and endings are added."""


def slug(prompt: str) -> str:
    """A prompt as a file name: lower-case ASCII letters, digits and dashes, at most `MAX_SLUG`, never empty."""
    ascii_text = unicodedata.normalize("NFKD", prompt[: 20 * MAX_SLUG]).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")
    if len(words) > MAX_SLUG:
        # At a word's end where there is one; a single long word is cut where it stands.
        words = words[: MAX_SLUG + 1].rpartition("-")[0] or words[:MAX_SLUG]
    return words or "prompt"


def unique_slugs(prompts: Sequence[str]) -> list[str]:
    """A file name for each prompt, all different: a name that is taken gets the first free number."""
    names: list[str] = []
    for prompt in prompts:
        base = name = slug(prompt)
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def policy_slug(policy: str) -> str:
    """A policy's name as part of a file name: "static:8+attention" gives "static-8-attention"."""
    return re.sub(r"[^a-z0-9.]+", "-", policy.lower()).strip("-") or "policy"

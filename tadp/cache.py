"""Where tadp keeps files between and during runs."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """$TADP_CACHE_DIR, or the user's cache directory."""
    named = os.environ.get("TADP_CACHE_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tadp"

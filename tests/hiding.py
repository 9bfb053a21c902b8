"""Packages that look as if they were not installed."""

import sys

import pytest

from tadp.complexity import bert, chinese, content, english, image, text
from tadp.report.console import console


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let imports of a package fail, and forget what was made with it."""
    for cached in (english.read_word, chinese._converter, chinese._tagger, bert._encoder, console, content._warn):
        cached.cache_clear()
    text.clear_cache()
    image._cache.clear()
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)

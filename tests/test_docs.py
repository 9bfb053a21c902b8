"""The examples of the front page and of other pages run as they stand."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/overview.md",
    "docs/quality.md",
    "docs/reuse.md",
    "docs/sparse-attention.md",
    "docs/shapes.md",
    "docs/few-steps.md",
    "docs/files.md",
    "docs/lora.md",
    "docs/diffusers.md",
)


@pytest.mark.compiles
@pytest.mark.generates
@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    assert blocks
    names: dict[str, object] = {"__name__": "example"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for block in blocks:
            exec(compile(block, page, "exec"), names)
    assert printed.getvalue()

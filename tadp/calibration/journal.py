"""A file of measurements that an interrupted run goes on with.

JSON Lines: what was measured with, then one measurement a line, on disk as soon as it is complete.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tadp.writing import replacing


class Journal:
    """Reads what is there, then appends."""

    def __init__(self, path: Path, key: Mapping[str, object], take: Callable[[Any], None]) -> None:
        """Open a file, or start one.

        Args:
            path: of the file; its directory is made.
            key: what measurements must have in common: model, versions, call, ...
            take: is called with every measurement, now and when one is added.

        Raises:
            ValueError: if the file was measured under another key, or is damaged before its last line.
        """
        self.path = path
        self._take = take
        header = json.dumps(dict(key), sort_keys=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        kept = text[: text.rfind("\n") + 1] or header + "\n"  # a killed run may have left half a line behind
        if kept != text:
            with replacing(path) as temporary:
                temporary.write_text(kept)
        lines = kept.splitlines()
        if lines[0] != header:
            raise ValueError(
                f"{path} was measured with another model, version or request; remove it to measure anew, or name "
                f"another place. It says {lines[0][:200]}, now it is {header[:200]}"
            )
        for number, line in enumerate(lines[1:], start=2):
            try:
                take(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is damaged ({error}); remove the file to measure anew"
                ) from error

    def add(self, content: Any) -> None:
        """Append a measurement; it is on disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(content) + "\n")
        self._take(content)

"""The terminal: the one console that commands print to, and plain tables for it."""

import functools
from typing import TYPE_CHECKING

from tadp.extras import need

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@functools.cache
def console(least: int = 0) -> "Console":
    """The console on standard output, made as wide as `least` characters where the terminal is narrower.

    Raises:
        MissingExtraError: without rich.
    """
    need_rich()
    from rich.console import Console

    found = Console()
    return found if found.width >= least else Console(width=least)


def table(title: str, *columns: str) -> "Table":
    """A table without rows; long cells are folded.

    Raises:
        MissingExtraError: without rich.
    """
    need_rich()
    from rich.table import Table

    made = Table(title=title)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def need_rich() -> None:
    """Check that there is something to print tables with.

    Raises:
        MissingExtraError: without rich.
    """
    need("rich", "cli", "tables on the terminal need rich")

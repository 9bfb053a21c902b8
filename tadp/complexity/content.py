"""What prompts and images tell of the content, as features of the score.

A scorer whose package is not installed is left out with one warning: the weight of its part is then shared out among
the other parts of the score.
"""

import functools
import warnings
from collections.abc import Callable, Iterable

from tadp.complexity import image as pictures
from tadp.complexity.text import TextScore
from tadp.errors import MissingExtraError, MissingExtraWarning

PARTS = ("entity", "spatial", "temporal", "total")


def of_prompts(prompts: Iterable[str], scorer: Callable[[str], TextScore]) -> dict[str, float]:
    """The parts of the text score of the most complex prompt, by the names that ranges have for them.

    Returns:
        Nothing where there is no prompt, and where prompts cannot be scored.
    """
    most = text_score(prompts, scorer)
    return {} if most is None else {f"text.{part}": getattr(most, part) for part in PARTS}


def text_score(prompts: Iterable[str], scorer: Callable[[str], TextScore]) -> TextScore | None:
    """The text score of the most complex prompt; None where there is none, and where prompts cannot be scored."""
    try:
        return max(map(scorer, prompts), key=lambda score: score.total, default=None)
    except MissingExtraError as error:
        _warn(f"{error}. Until then the complexity score leaves prompts out")
        return None


def of_images(images: object) -> float | None:
    """The mean complexity of what a pipeline takes for its `image`; None for None, and where images cannot be scored.

    Raises:
        TypeError, ValueError: for an image that is none, see `tadp.complexity.image.score`.
    """
    if images is None:
        return None
    try:
        return pictures.mean_total(images)
    except MissingExtraError as error:
        _warn(f"{error}. Until then the complexity score leaves images out")
        return None


@functools.cache
def _warn(message: str) -> None:
    """Once a process for each message."""
    warnings.warn(message, MissingExtraWarning, stacklevel=3)

"""Dependencies that `pip install tadp` leaves out: each belongs to an extra, which is named where one is missing."""

import importlib
from typing import Any

from tadp.errors import MissingExtraError


def need(module: str, extra: str, what: str) -> Any:
    """Import a module of an extra.

    Args:
        module: such as "cv2".
        extra: that installs it, such as "image".
        what: cannot be done without it, as a sentence such as "image scores need OpenCV".

    Raises:
        MissingExtraError: where it is not installed; the message says how to install it.
        ImportError: where it is installed and cannot be loaded.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # something that the module itself needs
        raise MissingExtraError(f"{what}: pip install 'tadp[{extra}]'") from error

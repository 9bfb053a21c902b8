"""Errors and warnings of tadp."""


class UnsupportedModelError(ValueError):
    """The model has no repeated transformer blocks, so there is nothing whose precision could be chosen."""


class PrecisionFallbackWarning(UserWarning):
    """A layer or a generation runs at 16 bits although the policy asked for less; the message names what and why."""


class QualityWarning(UserWarning):
    """The quality that was asked for cannot be promised."""

"""Errors and warnings of tadp."""


class UnsupportedModelError(ValueError):
    """The model has no repeated transformer blocks, so there is nothing whose precision could be chosen."""


class MissingExtraError(ImportError):
    """Something needs a package that is not installed; the message names the extra of tadp that installs it."""


class MissingExtraWarning(UserWarning):
    """Something is left out because it needs a package that is not installed; the message names the extra."""


class PrecisionFallbackWarning(UserWarning):
    """A layer or a generation runs at another width than the policy asked for; the message names what and why."""


class KernelWarning(UserWarning):
    """A kernel failed and another one runs in its place, or it compiles later than it should; the message says why."""


class QualityWarning(UserWarning):
    """The quality that was asked for cannot be promised."""


class CalibrationWarning(UserWarning):
    """A calibration is not used, or was measured on another kind of call; the message says why."""

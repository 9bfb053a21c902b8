"""The error that a wrong request raises; the command line prints its message alone and exits with code 2."""


class InputError(ValueError):
    """A request that cannot be met as given. The message says what is wrong and how to put it right."""

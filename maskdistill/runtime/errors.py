"""The one exception that a user is meant to read."""


class MaskDistillError(Exception):
    """Bad input or configuration. The message names the thing and says what to do about it.

    The command line prints the message without a traceback and exits with status 1.
    """

"""The one exception that a user is meant to read, and what the system said where a library hides it."""

import re


class MaskDistillError(Exception):
    """Bad input or configuration. The message names the thing and says what to do about it.

    The command line prints the message without a traceback and exits with status 1.
    """


def system_errno(error: BaseException) -> int | None:
    """The system's number behind an exception; HDF5 has it in the text of an ``OSError`` or ``RuntimeError``
    alone.
    """
    number: int | None = getattr(error, "errno", None)
    told = re.search(r"errno = (\d+)", str(error)) if number is None else None
    return int(told[1]) if told else number

"""The one exception that is written for users, and the system's error number if a library hides it."""

import re


class MaskDistillError(Exception):
    """Bad input or configuration. The message names the culprit and says what to do about it.

    The command line prints the message without a traceback and exits with status 1.
    """


def system_errno(error: BaseException) -> int | None:
    """The system's error number behind an exception; HDF5 gives it only in the text of an ``OSError`` or
    ``RuntimeError``.
    """
    number: int | None = getattr(error, "errno", None)
    told = re.search(r"errno = (\d+)", str(error)) if number is None else None
    return int(told[1]) if told else number

"""Hugging Face's hub where there is no network: it is asked once, and then only its cache is used.

The hub's library asks for a missing file six times, and open_clip tries several names of a file: most of a
minute passes before they say that there is no network.
"""

from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT = 10.0
"""Seconds for which a connection is waited for."""


class NoConnection(Exception):
    """What is wanted is not in the cache, and the hub cannot be reached; the message says why not."""


def unreachable() -> str:
    """Why the hub does not answer a request with its library's settings, as of proxies; empty if it does."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # types of whatever library makes the connection
        lines = str(error).splitlines() or [type(error).__name__]
        return f"{constants.ENDPOINT} ({lines[0].rstrip('.')})"
    return ""


@contextmanager
def one_question() -> Iterator[None]:
    """While the block runs, the hub's library uses its cache alone if the hub does not answer now.

    Raises:
        NoConnection: a file is missing, and the hub does not answer.
    """
    from huggingface_hub import constants

    reason = unreachable()
    if not reason:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    except Exception as error:
        if _misses_a_file(error):
            raise NoConnection(reason) from error
        raise
    finally:
        constants.HF_HUB_OFFLINE = before


def _misses_a_file(error: BaseException | None) -> bool:
    """Whether an exception, or one that it was raised for, says that a file is not there; damage does not."""
    while error is not None and not isinstance(error, FileNotFoundError):
        error = error.__cause__ or error.__context__
    return error is not None

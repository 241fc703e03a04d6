"""Files given by users: read in the encoding that they declare, and refused with a remedy that keeps them."""

import codecs
import json
import os
import stat
import unicodedata
from pathlib import Path
from reprlib import Repr
from typing import Any

from maskdistill.runtime.errors import MaskDistillError

_HEAD = 4096
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxlevel = 3


def shown(value: object) -> str:
    """A value from a file in a form for messages: printable and short, whatever its size and depth."""
    return printable_text(_SHORT.repr(value))


def printable_text(text: str) -> str:
    """Text in which lone surrogates, which UTF-8 cannot hold, and control characters are escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cs", "Cc") else char
        for char in text
    )


def read_user_json(path: str | Path) -> Any:
    """Content of a user's JSON file: UTF-8 with or without a byte order mark, UTF-16 or UTF-32.

    Raises:
        MaskDistillError: not a regular file, cannot be read, or not JSON, detected at its beginning if
            possible.
    """
    path = Path(path)
    head = _read(path, _HEAD)
    begin = head.decode(json.detect_encoding(head), "replace").lstrip("\ufeff \t\r\n")
    if head and begin and begin[0] not in "{[":
        raise _not_json(path, f"it begins with {shown(begin[0])}, not with a brace")
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise _not_json(
            path, "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        ) from None
    except MemoryError:
        raise MaskDistillError(
            f"{path}: too large for this machine's memory; give the part that is scored"
        ) from None


def _not_json(path: Path, reason: str) -> MaskDistillError:
    return MaskDistillError(
        f"{path}: not valid JSON ({printable_text(reason)}); correct the file, or give another one"
    )


def read_user_text(path: str | Path) -> str:
    """Content of a user's text file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        FileNotFoundError: from the system, as only the caller knows what the file is for.
        MaskDistillError: not a regular file, cannot be read, or in another encoding.
    """
    content = _read(Path(path), missing_ok=True)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise MaskDistillError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _read(path: Path, size: int = -1, missing_ok: bool = False) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise MaskDistillError(f"{path}: not a regular file; correct the path")
        with open(path, "rb") as stream:
            return stream.read(size)
    except FileNotFoundError:
        if missing_ok:
            raise
        raise MaskDistillError(f"{path}: no such file; correct the path") from None
    except OSError as error:
        raise MaskDistillError(
            f"{path}: cannot be read ({error.strerror}); grant access, or give a copy"
        ) from None

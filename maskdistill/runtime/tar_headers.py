"""Headers of tar archives that others made."""

import tarfile

LONGEST = 2**20
"""Bytes of a header that precedes a member's own, such as a long name; tarfile would read any number."""
_LEADING = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class StrictHeader(tarfile.TarInfo):
    """A header that must be one: tarfile takes a missing or damaged one after the first for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "StrictHeader":
        """As of the base.

        Raises:
            tarfile.ReadError: it is damaged, not there, or announces a size that none has.
        """
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"{error} where the next member should begin") from None
        if header.size < 0 or (header.type in _LEADING and header.size > LONGEST):
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header

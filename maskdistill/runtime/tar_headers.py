"""Headers of untrusted tar archives."""

import tarfile

LONGEST = 2**20
"""Largest size of a header that precedes a member's own, such as a long name; tarfile would read any number
of bytes.
"""
_LEADING = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class StrictHeader(tarfile.TarInfo):
    """A header that must be valid: tarfile takes a missing or damaged one after the first for the archive's
    end.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "StrictHeader":
        """As of the base.

        Raises:
            tarfile.ReadError: it is damaged, missing, or announces an impossible size.
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

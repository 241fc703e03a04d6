"""URLs of pictures in object stores and on web servers, in canonical spelling and without secrets.

``s3://BUCKET/NAME`` and ``gs://BUCKET/NAME`` with the name percent-encoded, ``http://`` and ``https://`` as
usual. Results of this module may appear in configurations, logs and manifests.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

STORES = ("s3", "gs")
"""Schemes of stores that can list their content."""
SCHEMES = (*STORES, "https", "http")
_SECRET = re.compile(
    r"sig|token|secret|password|passwd|credential|auth|key|expires|policy|session|^pw$|^se$|^sp$", re.I
)
_LONGEST_VALUE = 40
"""Longest value in a query: a longer one may be a secret, whatever its name."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Split(NamedTuple):
    """A URL in its parts.

    Attributes:
        scheme: one of :data:`SCHEMES`.
        host: for a store, the bucket.
        path: percent-encoded, without the leading slash; for a web server with the query.
    """

    scheme: str
    host: str
    path: str

    @property
    def name(self) -> str:
        """The path, decoded."""
        return unquote(self.path)


def split(url: str) -> Split:
    """Parts of a URL returned by :func:`checked`."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return Split(scheme, host, path)


def checked(text: str) -> str:
    """Canonical spelling of a URL given by a user. Names in a store are taken literally, so ``%`` is a plain
    character.

    Raises:
        ValueError: not such a URL, or one that holds a secret, which the message does not repeat.
    """
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in SCHEMES:
        raise ValueError(
            f"{redacted(text)!r} is not a URL; give one that begins with {'://, '.join(SCHEMES)}://"
        )
    host, _, path = rest.partition("/")
    if "@" in host:
        raise ValueError(
            f"{redacted(text)} holds a name or password, which would appear in results and logs; put it into "
            "~/.netrc, or use the environment (see the page on buckets)"
        )
    if scheme in STORES:
        if not _BUCKET.fullmatch(host):
            raise ValueError(f"{redacted(text)!r}: {host!r} is not a bucket name")
        return f"{scheme}://{host}/{quoted(path)}"
    return f"{scheme}://{_web(host, path, text)}"


def _web(host: str, path: str, text: str) -> str:
    if not host or any(sign in host for sign in "?#\\ "):
        raise ValueError(f"{redacted(text)!r} names no server")
    place, mark, query = path.partition("#")[0].partition("?")
    if any(_SECRET.search(name) or len(value) > _LONGEST_VALUE for name, value in parse_qsl(query, True)):
        raise ValueError(
            f"{redacted(text)} is signed or holds a secret, which would appear in results and logs and will "
            "expire; give the URL without it: s3:// and gs:// are signed with credentials of the environment"
        )
    return f"{host.lower()}/{quote(place, safe=_WEB)}{mark}{quote(query, safe=_WEB + '?')}"


_WEB = "/%~!$&'()*+,;=:@-._"


def quoted(name: str) -> str:
    """A name, percent-encoded as Amazon's signatures require."""
    return quote(name, safe="/~", errors="surrogateescape")


def redacted(text: str) -> str:
    """A text that may hold secrets, safe to show: without user name, password and query."""
    place, mark, _ = re.sub(r"://[^/@]*@", "://...@", text).partition("?")
    return place + ("?..." if mark else "")


def shown(url: str) -> str:
    """A checked URL in readable form, with names in stores decoded."""
    found = split(url)
    return f"{found.scheme}://{found.host}/{found.name}" if found.scheme in STORES else url

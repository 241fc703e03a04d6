"""The web address of an object, and signing of requests, only with credentials from the environment.

Nothing here can be configured, so that no credentials get into a configuration. For Amazon S3 and compatible
stores: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``,
``AWS_ENDPOINT_URL``, or the files of the AWS CLI with ``AWS_PROFILE``. For Google Cloud Storage: the
application default credentials. Without credentials, requests are not signed, which public buckets allow.
Stores are accessed by their XML interface (https://docs.aws.amazon.com/AmazonS3/latest/API,
https://cloud.google.com/storage/docs/xml-api).
"""

import configparser
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.remote_urls import STORES, split

if TYPE_CHECKING:
    import requests

INSTALL = "install it: make remote, or pip install 'maskdistill[remote]'"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_local = threading.local()


class _Amazon(NamedTuple):
    key: str
    secret: str
    token: str
    region: str
    endpoint: str


def session() -> "requests.Session":
    """This thread's session, which keeps connections open; a forked process makes its own.

    Raises:
        MaskDistillError: the extra is not installed.
    """
    if getattr(_local, "process", None) != os.getpid():
        try:
            import requests
        except ImportError:
            raise MaskDistillError(
                f"pictures in object stores and on web servers need requests; {INSTALL}"
            ) from None
        _local.session, _local.process = requests.Session(), os.getpid()
        _local.session.headers.update({"User-Agent": "maskdistill", "Accept-Encoding": "identity"})
    found: requests.Session = _local.session
    return found


def web_address(url: str) -> str:
    """The address from which the object of a checked URL is read; for a URL without a path, the bucket's
    address.
    """
    found = split(url)
    if found.scheme not in STORES:
        return url
    if found.scheme == "gs":
        base = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com").rstrip("/")
        return f"{base if '://' in base else f'http://{base}'}/{found.host}/{found.path}"
    amazon = _amazon()
    if amazon.endpoint:
        return f"{amazon.endpoint.rstrip('/')}/{found.host}/{found.path}"
    if "." in found.host:  # no certificate covers a dot before Amazon's own
        return f"https://s3.{amazon.region}.amazonaws.com/{found.host}/{found.path}"
    return f"https://{found.host}.s3.{amazon.region}.amazonaws.com/{found.path}"


def signer(url: str) -> Any:
    """The object that signs requests for a URL, for the library requests; None if nothing signs them.

    Raises:
        MaskDistillError: there are credentials but the extra is not installed, or they cannot be used.
    """
    scheme = split(url).scheme
    if scheme == "s3":
        return _amazon_signer(_amazon())
    return _google_signer() if scheme == "gs" and "STORAGE_EMULATOR_HOST" not in os.environ else None


def is_signed(url: str) -> bool:
    """Whether requests for a URL are signed."""
    return signer(url) is not None


def forget() -> None:
    """Read the environment again."""
    _amazon.cache_clear()
    _amazon_signer.cache_clear()
    _google_signer.cache_clear()


@lru_cache(1)
def _amazon() -> _Amazon:
    """Credentials from the environment, else from the files that ``aws configure`` writes."""
    given = os.environ
    profile = given.get("AWS_PROFILE", "default")
    keys = _section(given.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), profile)
    named = profile if profile == "default" else f"profile {profile}"
    more = _section(given.get("AWS_CONFIG_FILE", "~/.aws/config"), named)
    own = "AWS_ACCESS_KEY_ID" in given
    key, secret, token = (
        given.get(name.upper(), "") if own else keys.get(name, more.get(name, ""))
        for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    )
    region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or more.get("region") or "us-east-1"
    endpoint = next((given[name] for name in _ENDPOINTS if given.get(name)), more.get("endpoint_url", ""))
    return _Amazon(key, secret, token, region, endpoint)


def _section(path: str, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(Path(path).expanduser(), encoding="utf-8")
        return dict(parser[name]) if parser.has_section(name) else {}
    except (configparser.Error, OSError, UnicodeDecodeError):
        raise MaskDistillError(f"{path}: not a file as `aws configure` writes it; correct it") from None


@lru_cache(1)
def _amazon_signer(amazon: _Amazon) -> Any:
    if not amazon.key or not amazon.secret:
        return None
    try:
        from requests_aws4auth import AWS4Auth
    except ImportError:
        raise MaskDistillError(f"signed requests to s3:// need requests-aws4auth; {INSTALL}") from None
    return AWS4Auth(amazon.key, amazon.secret, amazon.region, "s3", session_token=amazon.token or None)


@lru_cache(1)
def _google_signer() -> Any:
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
    except ImportError:
        raise MaskDistillError(f"gs:// needs google-auth; {INSTALL}") from None
    try:
        return _Google(google.auth.default(scopes=[_SCOPE])[0])
    except DefaultCredentialsError:
        return None


class _Google:
    """Puts a token into each request; the token is renewed when it has expired."""

    def __init__(self, credentials: Any) -> None:
        self._credentials, self._lock = credentials, threading.Lock()

    def __call__(self, request: Any) -> Any:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            with self._lock:
                self._credentials.before_request(Request(), request.method, request.url, request.headers)
        except GoogleAuthError as error:
            raise MaskDistillError(
                f"gs://: the credentials of this machine cannot be used ({type(error).__name__}); renew "
                "them: gcloud auth application-default login"
            ) from None
        return request

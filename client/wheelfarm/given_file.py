"""Files that an operator names: paths, file:// and https:// URLs, read with what this machine may reach."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import httpx

from wheelfarm.errors import InputError, NotFound, TooLarge, UpstreamError

_TEXT_BYTES = 32 << 20
_TIMEOUT_S = 60.0


@contextmanager
def opened(url: str) -> Iterator[Iterable[bytes]]:
    """The bytes of a file. Raises NotFound where there is none, UpstreamError where it can't be had from where it is,
    InputError for what is neither a path nor such a URL, and for one over which anybody could send something else.

    Credentials come from the URL or from netrc.
    """
    local = local_path(url)
    if local is not None:
        with _opened_here(local) as chunks:
            yield chunks
        return
    try:
        with _client(url) as http, http.stream("GET", url) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise NotFound(f"There is no {without_secrets(url)}.")
            if answer.is_error:
                raise UpstreamError(f"{without_secrets(url)} was answered with {answer.status_code}.")
            yield answer.iter_raw()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise UpstreamError(f"{without_secrets(url)} can't be read: {reason}.") from error


def read_text(url: str) -> str:
    """A text file, of a bounded size."""
    data = bytearray()
    with opened(url) as chunks:
        for chunk in chunks:
            data += chunk
            if len(data) > _TEXT_BYTES:
                raise TooLarge(f"{without_secrets(url)} is larger than {_TEXT_BYTES >> 20} MiB.")
    return data.decode(errors="replace")


def local_path(url: str) -> Path | None:
    """The path that is named, by a file URL in whose file name a `+` may be escaped or not; None for other schemes."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return None
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        raise InputError(f"{without_secrets(url)} can't be read.", hint="Accepted: https://…, file:///…, a path")
    if not parts.scheme:
        return Path(url)
    path, verbatim = Path(unquote(parts.path)), Path(parts.path)
    return verbatim if verbatim.exists() and not path.exists() else path


def without_secrets(url: str) -> str:
    """The URL without credentials, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


@contextmanager
def _opened_here(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"There is no {path}.") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    with file:
        yield _chunks(file)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(1 << 20):
        yield chunk


def _client(url: str) -> httpx.Client:
    auth: httpx.Auth | None = None
    if not httpx.URL(url).userinfo:
        try:
            auth = httpx.NetRCAuth()
        except (OSError, SyntaxError):  # there is none, or none that can be read
            auth = None
    return httpx.Client(
        follow_redirects=True,
        timeout=_TIMEOUT_S,
        auth=auth,
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [_require_safe]},
    )


def _require_safe(request: httpx.Request) -> None:
    """Raise InputError before anything is asked for, also by a redirect, where anybody on the way could read the
    credentials and change the answer, a list of digests above all."""
    if request.url.scheme != "https" and not _is_loopback(request.url.host):
        raise InputError(
            f"{without_secrets(str(request.url))} is not https.", hint="Download it, and add it from a file."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

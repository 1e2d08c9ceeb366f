"""Where the swarm is and which key opens it, found without configuration when it runs on this machine.

The URL is the argument, else `TOOLSWARM_URL`, else that of the nearest `.toolswarm/endpoint.json` from the working
folder upwards, else the gateway's default address. The key is the argument, else `TOOLSWARM_API_KEY`, else
`MCP_API_KEY` (each also as `NAME_FILE`), else the file `api_key` beside the endpoint.json that gave the URL.

An endpoint.json is believed only when it belongs to this user (or root) and names this machine: a folder that
somebody else prepared must not send the user's key elsewhere.
"""

import os
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from toolswarm.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8080"
STATE_FOLDER = ".toolswarm"
KEY_NAMES = ("TOOLSWARM_API_KEY", "MCP_API_KEY")
HTTP_SCHEMES = ("http", "https")
BROKER_SCHEMES = ("redis", "rediss", "unix")


class EndpointFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a running swarm writes about itself; further members are ignored."""

    url: str
    broker: str | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A URL, a key, and where the URL came from; its repr shows neither key nor password."""

    url: str
    api_key: str
    origin: str

    def __repr__(self) -> str:
        return f"Endpoint({shown_url(self.url)!r}, from {self.origin})"

    @property
    def scheme(self) -> str:
        """The URL's scheme, in lower case."""
        return urlsplit(self.url).scheme.lower()


def find_endpoint(url: str | None, api_key: str | None, *, environ: Mapping[str, str], folder: Path) -> Endpoint:
    """Settle URL and key.

    Raises:
        ConfigurationError: the URL's scheme is not supported, or a file that was named cannot be read.
    """
    key = api_key or _key_from(environ)
    if url or environ.get("TOOLSWARM_URL"):
        origin = "the argument" if url else "TOOLSWARM_URL"
        return _checked(Endpoint(url=url or environ["TOOLSWARM_URL"], api_key=key, origin=origin))
    file = _nearest_file(folder)
    if file is None:
        return Endpoint(url=DEFAULT_URL, api_key=key, origin="the default")
    found = _checked(Endpoint(url=_read_endpoint(file).url, api_key=key, origin=str(file)))
    if not _is_this_machine(found.url):
        raise ConfigurationError(
            f"{file} names another machine ({shown_url(found.url)}); if that is meant, set TOOLSWARM_URL"
        )
    key_file = file.parent / "api_key"
    if not key and key_file.is_file():
        return msgspec.structs.replace(found, api_key=_read_secret(key_file, str(key_file)))
    return found


def shown_url(url: str) -> str:
    """The URL for messages: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _key_from(environ: Mapping[str, str]) -> str:
    for name in KEY_NAMES:
        if environ.get(name):
            return environ[name]
        if environ.get(f"{name}_FILE"):
            return _read_secret(Path(environ[f"{name}_FILE"]), f"{name}_FILE")
    return ""


def _read_secret(file: Path, origin: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{origin}: the key file {file} cannot be read as text") from error


def _nearest_file(folder: Path) -> Path | None:
    for place in (folder, *folder.parents):
        file = place / STATE_FOLDER / "endpoint.json"
        try:
            owner = file.stat().st_uid
        except OSError:
            continue
        if sys.platform == "win32" or owner in (os.geteuid(), 0):
            return file
    return None


def _read_endpoint(file: Path) -> EndpointFile:
    try:
        return msgspec.json.decode(file.read_bytes(), type=EndpointFile)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}; set TOOLSWARM_URL instead") from error


def _checked(endpoint: Endpoint) -> Endpoint:
    try:
        parts = urlsplit(endpoint.url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{endpoint.origin}: the URL of the swarm is malformed: {error}") from error
    if endpoint.scheme in ("amqp", "amqps"):
        raise ConfigurationError(
            f"{endpoint.origin}: amqp:// carries tasks, not requests; use the gateway (http://…) or the ledger's redis://"
        )
    if endpoint.scheme not in HTTP_SCHEMES + BROKER_SCHEMES:
        raise ConfigurationError(
            f"{endpoint.origin}: the URL of a swarm starts with http://, https://, redis://, rediss:// or unix://"
        )
    if endpoint.scheme != "unix" and not host:
        raise ConfigurationError(f"{endpoint.origin}: the URL {shown_url(endpoint.url)} names no host")
    return endpoint


def _is_this_machine(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "unix" or parts.hostname == "localhost":
        return True
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified

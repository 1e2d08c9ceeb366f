"""Who asks: the credential of a call's tenant, as the header that a request needs.

A token never leaves the worker but in the `Authorization` header of a request to `github.base_url`. The tokens of an
App's installation last an hour: they are renewed early and shared with the other workers through the cache's Redis,
encrypted under a key that only holders of the App's private key can derive.
"""

import base64
import hashlib
import threading
import time
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from github import Auth

from store import keys
from store.sections import Secret
from store.tool_settings import Github as GithubSettings
from store.tool_settings import GithubTenant
from tasks.github.failures import refusal
from tasks.github.shared import Shared
from tasks.github.wire import prepared, send
from tasks.operation import Run
from toolswarm.errors import ConfigurationError, OperationFailed

_RENEWED_EARLY_S = 300.0
_LARGEST_ANSWER_BYTES = 65_536
ANONYMOUS = "anonymous"


class Credential:
    """A token, or nothing."""

    def __init__(self, token: Secret, *, default_owner: str) -> None:
        self._token = token
        self.default_owner = default_owner
        self.fingerprint = _digest("token", token.reveal()) if token else ANONYMOUS
        self.account_path = "/user" if token else ""
        """Where GitHub says whose credential it is."""
        self.is_user = bool(token)
        """Whether it speaks for an account of its own, and not for an App."""

    def authorization(self, run: Run) -> str:
        """The header's value; empty when none is sent."""
        del run
        return f"Bearer {self._token.reveal()}" if self._token else ""

    def account_headers(self) -> dict[str, str]:
        """Headers for `account_path` that are others than usual."""
        return {}

    def refused(self) -> None:
        """GitHub did not accept it."""


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    expires_at: float

    def __repr__(self) -> str:
        return "_Token(…)"


class InstallationCredential(Credential):
    """An installation of a GitHub App; its tokens are minted when they are needed."""

    def __init__(self, settings: GithubSettings, owner: GithubSettings | GithubTenant, shared: Shared) -> None:
        pem = _private_key(owner.private_key_file)
        super().__init__(Secret(""), default_owner=owner.default_owner)
        self.fingerprint = _digest("app", settings.base_url, owner.app_id, str(owner.installation_id))
        self.account_path = f"/app/installations/{owner.installation_id}"
        self._settings = settings
        self._app = Auth.AppAuth(owner.app_id, pem)
        self._shared = shared
        self._key = keys.app_token_key(self.fingerprint)
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"toolswarm app token").derive(pem.encode())
        self._box = Fernet(base64.urlsafe_b64encode(derived))
        self._lock = threading.Lock()
        self._held: _Token | None = None
        self._refused = False

    def authorization(self, run: Run) -> str:
        """The header's value, with a token that is good for five minutes more at least.

        Raises:
            OperationFailed: GitHub gives none.
        """
        with self._lock:
            held = self._held
            if not _good(held) and not self._refused:
                held = self._from_others(run)
            if held is None or not _good(held):
                held = self._minted(run)
                self._refused = False
            self._held = held
            return f"Bearer {held.token}"

    def account_headers(self) -> dict[str, str]:
        """The header that speaks for the App itself."""
        return {"Authorization": f"Bearer {self._app.create_jwt()}"}

    def refused(self) -> None:
        """Forget the token: GitHub did not accept it."""
        with self._lock:
            self._held, self._refused = None, True

    def _from_others(self, run: Run) -> _Token | None:
        sealed = self._shared.recall(run, self._key)
        if sealed is None:
            return None
        try:
            return msgspec.json.decode(self._box.decrypt(sealed), type=_Token)
        except (InvalidToken, msgspec.MsgspecError):
            return None

    def _minted(self, run: Run) -> _Token:
        session = self._shared.session
        url = f"{self._settings.base_url.rstrip('/')}{self.account_path}/access_tokens"
        headers = {"Accept": "application/vnd.github+json", **self.account_headers()}
        request = prepared(session, "POST", url, headers=headers, body=b"")
        answer = send(session, run, request, timeout_s=self._settings.timeout_s, limit_bytes=_LARGEST_ANSWER_BYTES)
        subject = "installation of the GitHub App"
        if answer.status in (401, 404):
            raise OperationFailed(
                "GitHub does not accept the App; check its app_id, private_key_file, installation_id and our clock",
                code="authentication",
                before_effect=True,
                status=answer.status,
            )
        if answer.status != 201:
            raise refusal(answer.status, message="", subject=subject)
        token = _read(answer.body)
        if token is None:
            raise refusal(502, message="", subject=subject)
        keep_s = int(token.expires_at - time.time() - _RENEWED_EARLY_S)
        if keep_s > 0:
            self._shared.remember(run, self._key, self._box.encrypt(msgspec.json.encode(token)), seconds=keep_s)
        return token


class Credentials:
    """The credential of each tenant; all are checked when they are made."""

    def __init__(self, settings: GithubSettings, shared: Shared) -> None:
        """Make them.

        Raises:
            ConfigurationError: naming the setting, never its value.
        """
        self._shared_by_all = _credential(settings, settings, shared, "github")
        self._of_tenant: dict[str, Credential] = {}
        for name, tenant in settings.tenants.items():
            if tenant.token or tenant.app_id:
                self._of_tenant[name] = _credential(settings, tenant, shared, f"github.tenants.{name}")
            elif tenant.default_owner:
                self._of_tenant[name] = _credential(
                    settings, msgspec.structs.replace(settings, default_owner=tenant.default_owner), shared, "github"
                )

    def of(self, tenant: str) -> Credential:
        """The tenant's own credential, else the one that all share."""
        return self._of_tenant.get(tenant, self._shared_by_all)


def _credential(
    settings: GithubSettings, owner: GithubSettings | GithubTenant, shared: Shared, where: str
) -> Credential:
    if not owner.app_id:
        token = owner.token.reveal()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError(f"{where}.token has characters that no token has; check it for line ends")
        return Credential(owner.token, default_owner=owner.default_owner)
    if owner.token:
        raise ConfigurationError(f"{where}: set either token or app_id, not both")
    if not owner.private_key_file or owner.installation_id <= 0:
        raise ConfigurationError(f"{where}: app_id needs private_key_file and installation_id beside it")
    try:
        return InstallationCredential(settings, owner, shared)
    except OSError as error:
        raise ConfigurationError(f"{where}.private_key_file cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{where}.private_key_file is not a private key in PEM format") from None


def _private_key(file: str) -> str:
    pem = Path(file).read_bytes()
    load_pem_private_key(pem, password=None)
    return pem.decode("ascii")


def _good(token: _Token | None) -> bool:
    return token is not None and token.expires_at - time.time() > _RENEWED_EARLY_S


def _read(body: bytes) -> _Token | None:
    class Minted(msgspec.Struct):
        token: str
        expires_at: datetime

    try:
        minted = msgspec.json.decode(body, type=Minted)
    except msgspec.MsgspecError:
        return None
    return _Token(token=minted.token, expires_at=minted.expires_at.timestamp())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:24]

"""What the operations of `desktop` share: the root folder of each tenant, and the limits."""

import os
import re
import threading
from pathlib import Path

from store.configuration import Configuration
from store.tool_settings import Desktop
from tasks.confined import Confined, refused
from tasks.desktop.journal import Journal
from tasks.desktop.policy import Policy
from tasks.desktop.protected import refuse_exposure
from tasks.desktop.read_cache import ReadCache
from tasks.desktop.sessions import Sessions
from tasks.desktop.undo import put_right
from toolswarm.errors import OperationFailed

_TENANT = re.compile(r"[a-z0-9_-]{1,64}")


class Desk:
    """The roots of all tenants, opened when first used, with the limits and the memory that operations share."""

    def __init__(self, settings: Desktop, *, call_deadline_s: float) -> None:
        self.settings = settings
        self._workspaces = Path(settings.workspaces).absolute()
        self._roots = {tenant: Path(root).absolute() for tenant, root in settings.roots.items()}
        self.max_output_bytes = settings.max_output_bytes
        self.policy = Policy(settings)
        self.sessions = Sessions(settings)
        self.read_cache = ReadCache(settings.read_cache_bytes, settings.read_ttl_s)
        # Beside the workspaces: a name that no tenant can have, in the one folder that all desktop workers share.
        self.journal = Journal(self._workspaces / ".journal", call_deadline_s=call_deadline_s)
        self._open: dict[str, Confined] = {}
        self._unsettled: set[str] = set()
        """Tenants with an atomic batch that could not be put right yet."""
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        """One for each tenant: what one has to wait for is nothing to another."""

    @classmethod
    def open(cls, configuration: Configuration) -> "Desk":
        """The desk of one worker process; touches nothing yet.

        Raises:
            ConfigurationError: a root would give away what is ours, or tenants' workspaces.
        """
        refuse_exposure(configuration)
        return cls(configuration.desktop, call_deadline_s=configuration.store.call_deadline_s)

    def root(self, tenant: str) -> Confined:
        """The tenant's root folder; a workspace is made (for us alone) when it is not there.

        Raises:
            OperationFailed: `root_missing` when a folder that was configured is not there, `path_refused` for a
                tenant whose name cannot be a folder's.
        """
        if not _TENANT.fullmatch(tenant):
            raise refused(tenant, "cannot be the name of a tenant's folder ([a-z0-9_-], at most 64)")
        with self._lock:
            lock = self._locks.setdefault(tenant, threading.Lock())
        with lock:
            confined = self._open.get(tenant)
            if confined is None or not _is_still_there(confined):
                confined = self._make(tenant)
            elif tenant not in self._unsettled:
                return confined
            self._put_right(tenant, confined)
            self._open[tenant] = confined
            return confined

    def _put_right(self, tenant: str, confined: Confined) -> None:
        self._unsettled.add(tenant)
        try:
            complete = put_right(self.journal, tenant, confined)
        except OSError as error:
            raise OperationFailed(
                f"an atomic batch cannot be undone ({os.strerror(error.errno or 0)}); look at the disk",
                code="input_output",
                retryable=True,
                before_effect=True,
            ) from error
        if complete:
            self._unsettled.discard(tenant)

    def is_configured(self, tenant: str) -> bool:
        """Whether the tenant's root is one that the operator chose, and not a workspace of ours."""
        return tenant in self._roots

    def _make(self, tenant: str) -> Confined:
        configured = self._roots.get(tenant)
        try:
            if configured is not None:
                return Confined(configured)
            self._workspaces.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = self._workspaces / tenant
            folder.mkdir(mode=0o700, exist_ok=True)
            return Confined(folder)
        except OSError as error:
            setting = f"desktop.roots.{tenant}" if configured is not None else "desktop.workspaces"
            why = os.strerror(error.errno or 0)
            raise OperationFailed(
                f"the root folder of tenant {tenant} cannot be opened ({why}); check {setting}",
                code="root_missing",
                before_effect=True,
            ) from error


def _is_still_there(confined: Confined) -> bool:
    """Whether the name still means the folder that is open: it may have been removed and made again."""
    try:
        found = os.stat(confined.root)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == confined.identity

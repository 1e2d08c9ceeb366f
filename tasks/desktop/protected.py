"""What no tenant's root may hold or lie in: the keys, the calls and the workspaces of tenants.

Checked when a worker starts, on paths without symbolic links. A command may use all of its root, and an agent may ask
for any file in it, so a root around the state folder would give away the key that signs calls.
"""

import os
from collections.abc import Iterator

from store.configuration import Configuration
from toolswarm.errors import ConfigurationError


def refuse_exposure(configuration: Configuration) -> None:
    """Return when no root, and no folder that commands may use, meets what is ours.

    Raises:
        ConfigurationError: one does; the message names the setting.
    """
    ours = [(what, os.path.realpath(path)) for what, path in _ours(configuration) if path]
    for setting, given in _given(configuration):
        path = os.path.realpath(given)
        for what, kept in ours:
            if _within(kept, path) or _within(path, kept):
                raise ConfigurationError(f"{setting}: {given} holds, or lies in, {what}; choose a folder apart from it")


def _ours(configuration: Configuration) -> Iterator[tuple[str, str]]:
    yield "the state folder (local.state)", configuration.local.state
    yield "the workspaces of tenants (desktop.workspaces)", configuration.desktop.workspaces
    yield "the spool (store.spool)", configuration.store.spool
    yield "the cache's secret (cache.secret_file)", configuration.cache.secret_file
    yield "the signing key (signing.private_key_file)", configuration.signing.private_key_file


def _given(configuration: Configuration) -> Iterator[tuple[str, str]]:
    desktop = configuration.desktop
    for tenant, root in desktop.roots.items():
        yield f"desktop.roots.{tenant}", root
    for setting, folders in (("sandbox_read", desktop.sandbox_read), ("sandbox_write", desktop.sandbox_write)):
        for folder in folders:
            yield f"desktop.{setting}", folder


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")

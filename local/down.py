"""Stopping a system that runs in the background: let it drain, or end it now."""

import os
import signal
import time

from local.screen import Screen
from local.snapshot import Phase
from local.state_folder import StateFolder

_LOOK_S = 0.1
_KILL_AFTER_S = 5.0
"""How long a supervisor that was told to end everything now may take."""


def down(folder: StateFolder, screen: Screen, *, now: bool) -> int:
    """Ask the supervisor to drain, show how it does, and return when nothing is left."""
    pid = folder.running_pid()
    if not pid:
        print("Toolswarm is not running")
        return 0
    before = folder.read_snapshot()
    if before is not None:
        screen.assume(before)
    _send(pid, signal.SIGQUIT if now else signal.SIGTERM)
    began = time.monotonic()
    while folder.running_pid() == pid:
        snapshot = folder.read_snapshot()
        if snapshot is not None and snapshot.pid == pid and snapshot.phase in (Phase.DRAINING, Phase.STOPPED):
            screen.update(snapshot)
        screen.tick()
        if now and time.monotonic() - began > _KILL_AFTER_S:
            _send(pid, signal.SIGKILL)  # its children and its watchdog see to the rest
        time.sleep(_LOOK_S)
    screen.close()
    screen.say(f"Toolswarm stopped after {time.monotonic() - began:.1f} s")
    return 0


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself

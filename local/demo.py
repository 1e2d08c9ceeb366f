"""`make demo`: a system whose tools work on targets of its own, and a dozen real calls through it."""

import asyncio
import subprocess
import sys

from local.snapshot import Phase, Snapshot
from local.up import Setup, up
from toolswarm.errors import ConfigurationError

_LOOK_S = 0.1


def demo(setup: Setup, *, once: bool) -> int:
    """Start the system with demo targets, or use the one that runs with them; then run the calls.

    With `once` the exit status is that of the calls.

    Raises:
        ConfigurationError: a system without demo targets runs.
    """
    pid = setup.folder.running_pid()
    if pid:
        snapshot = setup.folder.read_snapshot()
        if snapshot is None or snapshot.pid != pid or not snapshot.demo or snapshot.phase is not Phase.READY:
            raise ConfigurationError(
                f"Toolswarm already runs (pid {pid}) with targets of its own, which the demo must not touch; "
                "`make down` first"
            )
        return _start_calls(snapshot).wait()
    print("The demo works on targets of its own: a small GitHub and a remote host on this machine.\n", flush=True)
    codes: list[int] = []

    async def run_calls(snapshot: Snapshot) -> bool:
        codes.append(await _finish(_start_calls(snapshot)))
        return once

    code = up(setup, demo=True, when_ready=run_calls)
    return code or (codes[0] if once and codes else 0)


def _start_calls(snapshot: Snapshot) -> subprocess.Popen[bytes]:
    """The calls run in a process of their own: the supervisor has one thread, and it is busy."""
    return subprocess.Popen([sys.executable, "-m", "local", "demo-calls", snapshot.url_of("gateway")])


async def _finish(process: subprocess.Popen[bytes]) -> int:
    try:
        while (code := process.poll()) is None:  # noqa: ASYNC110  # asyncio would wait for it in a thread
            await asyncio.sleep(_LOOK_S)  # asyncio would wait for it in a thread
        return code
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()

"""What the user sees while a system starts and drains: one live block on a terminal, plain lines anywhere else.

A screen is fed snapshots and draws what is new in them, so it serves the process that supervises and one that only
watches alike.
"""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from local.snapshot import Phase, ServiceSnapshot, ServiceState, Snapshot

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Screen(Protocol):
    """Somewhere to show how the system fares."""

    def update(self, snapshot: Snapshot) -> None:
        """Show what is new."""
        ...

    def assume(self, snapshot: Snapshot) -> None:
        """Take this for known: only what changes from here on is news."""
        ...

    def tick(self) -> None:
        """Move the spinners; called ten times a second."""
        ...

    def say(self, text: str) -> None:
        """Print a text below all that was shown."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


def make_screen(environ: Mapping[str, str], out: TextIO = sys.stdout) -> Screen:
    """The live block on a terminal; plain lines when there is none, in CI, and for those who want no colour."""
    plain = not out.isatty() or environ.get("CI") or environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return PlainScreen(out) if plain else LiveScreen(out)


class PlainScreen:
    """One line for each thing that happens."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._known: dict[str, ServiceSnapshot] = {}

    def update(self, snapshot: Snapshot) -> None:
        """Print a line for each service that has come into another state."""
        for line in news(self._known, snapshot):
            self.say(line)

    def assume(self, snapshot: Snapshot) -> None:
        """Take this for known."""
        news(self._known, snapshot)

    def tick(self) -> None:
        """Nothing moves here."""

    def say(self, text: str) -> None:
        """Print it."""
        print(text, file=self._out, flush=True)

    def close(self) -> None:
        """Nothing to leave."""


class LiveScreen:
    """A block that changes in place while the system starts or drains; in between, a line when something happens."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console  # only here: the plain screen must not pay for it

        self._console = Console(file=out, highlight=False)
        self._live: Live | None = None
        self._snapshot: Snapshot | None = None
        self._known: dict[str, ServiceSnapshot] = {}

    def update(self, snapshot: Snapshot) -> None:
        """Redraw the block, or print what happened."""
        moving = snapshot.phase in (Phase.STARTING, Phase.DRAINING)
        lines = news(self._known, snapshot)
        self._snapshot = snapshot
        if moving or self._live is not None:
            self._draw(moving)
            lines = [line for line in lines if line.startswith(("✗", "  |"))]  # the block has no room for last words
        for line in lines:
            self._console.print(f"  {line}", style="yellow", markup=False)

    def assume(self, snapshot: Snapshot) -> None:
        """Take this for known."""
        news(self._known, snapshot)

    def tick(self) -> None:
        """Turn the spinners."""
        if self._live is not None:
            self._draw(True)

    def say(self, text: str) -> None:
        """Print it below the block."""
        self.close()
        self._console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Let the block stand as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, moving: bool) -> None:
        from rich.live import Live

        if self._live is None:
            # Without its own refresh thread: children are bound to this thread, and forking wants to be alone.
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self._block(), refresh=True)
        if not moving:
            self.close()

    def _block(self) -> "Text":
        from rich.text import Text

        block = Text()
        if self._snapshot is None:
            return block
        frame = _SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]
        width = max((len(service.name) for service in self._snapshot.services), default=0)
        for service in self._snapshot.services:
            mark, style = _MARKS[service.state]
            block.append(f"  {mark or frame} ", style=style)
            block.append(f"{service.name:{width}}  ")
            block.append(f"{_remark(service)}\n", style="dim")
        block.rstrip()
        return block


_MARKS = {
    ServiceState.WAITING: ("·", "dim"),
    ServiceState.STARTING: ("", "cyan"),
    ServiceState.READY: ("✓", "green"),
    ServiceState.BACKOFF: ("↻", "yellow"),
    ServiceState.CRASH_LOOP: ("✗", "red"),
    ServiceState.STOPPING: ("", "cyan"),
    ServiceState.STOPPED: ("–", "dim"),
}
"""State -> mark (empty: a spinner) and style."""


def news(known: dict[str, ServiceSnapshot], snapshot: Snapshot) -> list[str]:
    """A line for each service whose state the user should hear of; `known` is brought up to date."""
    lines: list[str] = []
    for service in snapshot.services:
        before = known.get(service.name)
        known[service.name] = service
        if before is not None and before.state is service.state and before.pid == service.pid:
            continue
        line = _news_of(service)
        if line and not (before and _news_of(before) == line):
            lines.append(line)
            lines.extend(last_words(service))
    return lines


def last_words(service: ServiceSnapshot) -> list[str]:
    """What a service that was given up said last, line by line."""
    return [f"  | {words}" for words in service.last_words] if service.state is ServiceState.CRASH_LOOP else []


def _news_of(service: ServiceSnapshot) -> str:
    match service.state:
        case ServiceState.READY:
            return f"✓ {service.name} ready in {service.ready_s or 0:.2f} s"
        case ServiceState.BACKOFF:
            return f"↻ {service.name} {service.note}; starting it again"
        case ServiceState.CRASH_LOOP:
            return f"✗ {service.name} {service.note}"
        case ServiceState.STOPPED:
            return f"– {service.name} stopped"
        case _:
            return ""


def _remark(service: ServiceSnapshot) -> str:
    if service.state is ServiceState.READY:
        return f"{service.ready_s or 0:.2f} s" + (f"  {service.url}" if service.url.startswith("http") else "")
    if service.state is ServiceState.STOPPING:
        return "finishes what it runs"
    if service.state is ServiceState.STOPPED:
        return "stopped"
    return service.note

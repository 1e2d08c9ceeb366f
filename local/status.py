"""Telling how a system on this machine fares."""

import time

import msgspec

from local.processes import memory_bytes, sum_memory
from local.snapshot import Phase, ServiceState, Snapshot
from local.state_folder import StateFolder

NOT_RUNNING = 3


class ServiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One service, as `status` shows it."""

    name: str
    state: str
    pid: int | None
    uptime_s: float | None
    restarts: int
    memory_bytes: int | None
    url: str
    note: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole system, as `status` shows it."""

    running: bool
    phase: str
    pid: int | None = None
    url: str = ""
    ready_s: float | None = None
    memory_bytes: int | None = None
    """Proportional set size of all processes together."""
    services: tuple[ServiceLine, ...] = ()


def read_status(folder: StateFolder) -> Status:
    """The status at this moment."""
    pid = folder.running_pid()
    snapshot = folder.read_snapshot() if pid else None
    if pid is None or snapshot is None or snapshot.pid != pid:
        return Status(running=pid is not None, phase=str(Phase.STARTING if pid else Phase.STOPPED), pid=pid)
    lines = _service_lines(snapshot)
    own = sum_memory([pid, *([snapshot.guard_pid] if snapshot.guard_pid else [])])
    sizes = [size for size in (own, *(line.memory_bytes for line in lines)) if size is not None]
    return Status(
        running=True,
        phase=str(snapshot.phase),
        pid=pid,
        url=snapshot.url_of("gateway"),
        ready_s=snapshot.ready_s,
        memory_bytes=sum(sizes) if sizes else None,
        services=lines,
    )


def status(folder: StateFolder, *, as_json: bool) -> int:
    """Print the status; 0 when all is well, 1 when something is not, 3 when nothing runs."""
    now = read_status(folder)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(now), indent=2).decode())
    elif not now.running:
        print("Toolswarm is not running; `make up` starts it")
    else:
        print(_table(now))
    if not now.running:
        return NOT_RUNNING
    troubled = any(line.state in (ServiceState.BACKOFF, ServiceState.CRASH_LOOP) for line in now.services)
    return 1 if troubled or now.phase != Phase.READY else 0


def _service_lines(snapshot: Snapshot) -> tuple[ServiceLine, ...]:
    now = time.time()
    return tuple(
        ServiceLine(
            name=service.name,
            state=str(service.state),
            pid=service.pid,
            uptime_s=None if service.started_at is None else round(now - service.started_at, 1),
            restarts=service.restarts,
            memory_bytes=None if service.pid is None else memory_bytes(service.pid),
            url=service.url,
            note=service.note,
        )
        for service in snapshot.services
    )


def _table(now: Status) -> str:
    rows = [("SERVICE", "STATE", "PID", "UPTIME", "RESTARTS", "MEMORY", "WHERE")]
    rows += [
        (
            line.name,
            line.state,
            str(line.pid or "–"),
            _duration(line.uptime_s),
            str(line.restarts),
            _megabytes(line.memory_bytes),
            " ".join(filter(None, (line.url, line.note))),
        )
        for line in now.services
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"{now.phase}, pid {now.pid}, {_megabytes(now.memory_bytes)} in all")
    return "\n".join(lines)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _megabytes(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 1_000_000:.0f} MB"

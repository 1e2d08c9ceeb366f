"""The fake GitHub's controls over HTTP, for other processes: `/_control/…` with JSON in and out.

| request | does |
|---|---|
| `GET requests` | the log: a list of `Logged` |
| `DELETE requests` | forgets it |
| `POST faults` | a list of `Fault`: expect these too |
| `DELETE faults` | let everything work |
| `PUT seed` | `{"seed": 7}`: draw the chances anew |
| `PUT limit` | `{"token": …, "bucket": "core", "remaining": 0, "reset_in_s": 60}` |
| `PUT secondary` | `content_per_minute`, `content_per_hour`, `points_per_minute`, `concurrent`, `retry_after_s` |
| `PUT latency` | `{"seconds": 0.1}` |
| `POST clock` | `{"advance_s": 3600}` |
| `POST repositories` | `{"full_name": "alice/x", "private": true, "files": {"README.md": "…"}}` |
| `GET state` | what there is: repositories with their branches, files, issue titles, comments and pull requests |
| `GET violations` | where an answer was not as GitHub describes it |
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from tests.servers.github_engine import Engine
from tests.servers.github_faults import Fault
from tests.servers.github_world import Repository


class Slow(Protocol):
    """What has a latency."""

    latency_s: float


class _Limit(msgspec.Struct, forbid_unknown_fields=True):
    token: str
    bucket: str = "core"
    remaining: int | None = None
    reset_in_s: float | None = None


class _Secondary(msgspec.Struct, forbid_unknown_fields=True):
    content_per_minute: int | None = None
    content_per_hour: int | None = None
    points_per_minute: int | None = None
    concurrent: int | None = None
    retry_after_s: int = 60


class _Latency(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float


class _Seed(msgspec.Struct, forbid_unknown_fields=True):
    seed: int


class _Clock(msgspec.Struct, forbid_unknown_fields=True):
    advance_s: float


class _NewRepository(msgspec.Struct, forbid_unknown_fields=True):
    full_name: str
    private: bool = False
    files: dict[str, str] = msgspec.field(default_factory=dict[str, str])


def control(engine: Engine, server: Slow, method: str, target: str, body: bytes) -> tuple[int, bytes]:
    """Do what `/_control/…` says: status and JSON."""
    what = f"{method} {target.partition('?')[0].removeprefix('/_control/')}"
    action = _ACTIONS.get(what)
    if action is None:
        return 404, msgspec.json.encode({"message": f"the controls have no {what}", "known": sorted(_ACTIONS)})
    try:
        with engine.lock:
            return 200, msgspec.json.encode(action(engine, server, body))
    except (msgspec.DecodeError, KeyError) as error:
        return 400, msgspec.json.encode({"message": str(error)})


def _requests(engine: Engine, _server: Slow, _body: bytes) -> Any:
    return engine.requests


def _forget(engine: Engine, _server: Slow, _body: bytes) -> Any:
    engine.requests.clear()


def _fail(engine: Engine, _server: Slow, body: bytes) -> Any:
    engine.plan.add(*msgspec.json.decode(body, type=list[Fault]))


def _heal(engine: Engine, _server: Slow, _body: bytes) -> Any:
    engine.plan.clear()


def _seed(engine: Engine, _server: Slow, body: bytes) -> Any:
    engine.plan.seed(msgspec.json.decode(body, type=_Seed).seed)


def _limit(engine: Engine, _server: Slow, body: bytes) -> Any:
    wanted = msgspec.json.decode(body, type=_Limit)
    viewer, now = engine.world.tokens[wanted.token], engine.world.now()
    engine.limits.set(viewer, wanted.bucket, now, remaining=wanted.remaining, reset_in_s=wanted.reset_in_s)


def _secondary(engine: Engine, _server: Slow, body: bytes) -> Any:
    wanted = msgspec.json.decode(body, type=_Secondary)
    for name in wanted.__struct_fields__:
        setattr(engine.limits, name, getattr(wanted, name))


def _latency(_engine: Engine, server: Slow, body: bytes) -> Any:
    server.latency_s = msgspec.json.decode(body, type=_Latency).seconds


def _clock(engine: Engine, _server: Slow, body: bytes) -> Any:
    engine.world.clock_ahead_s += msgspec.json.decode(body, type=_Clock).advance_s


def _new_repository(engine: Engine, _server: Slow, body: bytes) -> Any:
    wanted = msgspec.json.decode(body, type=_NewRepository)
    owner, _, name = wanted.full_name.partition("/")
    made = engine.world.add_repository(owner, name, private=wanted.private)
    if wanted.files:
        files = {path: content.encode() for path, content in wanted.files.items()}
        engine.world.commit(made, files, message="Initial commit", by=made.owner)
    return _described(made)


def _state(engine: Engine, _server: Slow, _body: bytes) -> Any:
    return {each.full_name: _described(each) for each in engine.world.repositories.values()}


def _described(found: Repository) -> dict[str, Any]:
    branches = {
        ref.removeprefix("refs/heads/"): {"sha": sha, "files": sorted(found.git.files(found.git.commits[sha].tree))}
        for ref, sha in found.git.refs.items()
    }
    return {
        "private": found.private,
        "branches": branches,
        "issues": [each.title for each in found.issues.values() if each.number not in found.pulls],
        "comments": [each.body for each in found.comments.values()],
        "pulls": [
            {"head": each.head, "base": each.base, "merged": bool(each.merged_at)} for each in found.pulls.values()
        ],
    }


def _violations(engine: Engine, _server: Slow, _body: bytes) -> Any:
    return engine.violations


_ACTIONS: dict[str, Callable[[Engine, Slow, bytes], Any]] = {
    "GET requests": _requests,
    "DELETE requests": _forget,
    "POST faults": _fail,
    "DELETE faults": _heal,
    "PUT seed": _seed,
    "PUT limit": _limit,
    "PUT secondary": _secondary,
    "PUT latency": _latency,
    "POST clock": _clock,
    "POST repositories": _new_repository,
    "GET state": _state,
    "GET violations": _violations,
}

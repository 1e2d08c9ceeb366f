"""Running a command on a remote host: once, with a time limit that holds, and an honest end."""

from typing import Annotated

from msgspec import Meta

from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.order import Mode, order
from tasks.droplet.outcome import RemoteResult
from tasks.droplet.remembered import HOST
from tasks.droplet.run_once import Beginning, errand, probe_once, run_once
from tasks.operation import Run, operation
from toolswarm.messages import Effect

TIME_LIMIT_S = 600.0
LONGEST_TIMEOUT_S = TIME_LIMIT_S - 15

Argv = Annotated[
    Annotated[list[str], Meta(min_length=1, max_length=4096)] | None,
    Meta(
        description="Program and arguments; no shell interprets them. Either this or script.",
        examples=[["systemctl", "is-active", "nginx"]],
    ),
]
Script = Annotated[
    Annotated[str, Meta(min_length=1)] | None,
    Meta(
        description="Text for `sh -c` on the host; put nothing into it that comes from outside. Either this or argv.",
        examples=["cd /srv/app && git rev-parse HEAD"],
    ),
]
Cwd = Annotated[
    Annotated[str, Meta(min_length=1)] | None,
    Meta(description="Working folder, taken literally; none: the login folder.", examples=["/srv/app"]),
]
Env = Annotated[
    dict[str, str] | None,
    Meta(
        description="Variables to add to the login's environment; other users of the host cannot see them.",
        examples=[{"LANG": "C"}],
    ),
]
Stdin = Annotated[
    str | None,
    Meta(description="Text for the command's standard input; none: it is empty.", examples=["first line\n"]),
]
Timeout = Annotated[
    float, Meta(description="Seconds after which it is killed.", gt=0, le=LONGEST_TIMEOUT_S, examples=[60])
]
MaxOutput = Annotated[
    int,
    Meta(description="How many bytes of each output are kept: head and tail.", ge=256, le=1_048_576, examples=[65_536]),
]


def probe_run(
    hosts: Hosts,
    attempt: Run,
    *,
    argv: list[str] | None,
    script: str | None,
    host: str | None,
    cwd: str | None,
    env: dict[str, str] | None,
    stdin: str | None,
    timeout_s: float,
    max_output_bytes: int,
) -> RemoteResult | object:
    """Look whether an earlier delivery has begun the command; if so, wait for its end."""
    wanted = order(argv, script, cwd=cwd, env=env, stdin=stdin, timeout_s=timeout_s, max_output_bytes=max_output_bytes)
    found = hosts.find(host, attempt)
    attempt.executed_on(found.name)
    return probe_once(hosts, attempt, errand(hosts, found, attempt, wanted))


@operation(
    effect=Effect.VERIFIABLE,
    probe=probe_run,
    time_limit_s=TIME_LIMIT_S,
    from_context={"host": "host"},
    marks_effect=True,
    destructive=True,
    changes=HOST,
)
def run(
    hosts: Hosts,
    attempt: Run,
    *,
    argv: Argv = None,
    script: Script = None,
    host: HostName = None,
    cwd: Cwd = None,
    env: Env = None,
    stdin: Stdin = None,
    timeout_s: Timeout = 30.0,
    max_output_bytes: MaxOutput = 262_144,
) -> RemoteResult:
    """Run a command on a remote host and wait for its end.

    Give the program and its arguments as `argv`, or a text for the shell as `script`. A command that fails is no
    failed call: look at `exit_code`. When its time is up, the call is cancelled, or it writes more to an output than
    the operator allows, it is killed with everything in its session and the call fails (`time_limit`, `stopped`,
    `output_limit`), with the output so far. What it leaves running when it ends by itself, stays.

    The host keeps a record of each call for a day (in `~/.cache/toolswarm`), so that a call that is delivered twice
    runs once, and a connection that breaks in the middle loses nothing. Where it cannot (`run_once` is false, then:
    the home folder is read-only), a broken connection leaves the outcome open (`connection_lost`).
    """
    wanted = order(argv, script, cwd=cwd, env=env, stdin=stdin, timeout_s=timeout_s, max_output_bytes=max_output_bytes)
    found = hosts.find(host, attempt)
    attempt.executed_on(found.name)
    what = errand(hosts, found, attempt, wanted)
    return run_once(hosts, attempt, what, begin=Beginning(attempt), mode=Mode.FIRST)

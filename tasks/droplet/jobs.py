"""Commands that go on in the background of a host: started, looked at, killed; no connection is needed meanwhile."""

import time
from typing import Annotated

import msgspec
from msgspec import Meta

from tasks.droplet.asking import Answer, ask
from tasks.droplet.commands import Argv, Cwd, Env, Script, Stdin
from tasks.droplet.hosts import HostName, Hosts
from tasks.droplet.inventory import HostEntry
from tasks.droplet.job_records import (
    LONGEST_JOB_S,
    JobInfo,
    JobOutput,
    JobState,
    job_name,
    no_such,
    outputs,
    packed,
    parsed_state,
    place_of,
    split_name,
)
from tasks.droplet.order import Errand, Place, kill_line, list_line, order, poll_line
from tasks.droplet.outcome import check_begun
from tasks.droplet.remembered import HOST
from tasks.droplet.run_once import deliver_job
from tasks.operation import NOT_DONE, Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

_START_S = 30.0
_TICK_S = 0.05
_LOOK_EVERY_S = 0.5
_MOST_LISTED = 100
_LIST_BYTES = 1_048_576

JobName = Annotated[
    str,
    Meta(
        description="The job, as job_start has named it.",
        min_length=1,
        examples=["web-1:0197f2a0-7c1e-7b53-8a8e-1f2d3c4b5a69"],
    ),
]
JobLimit = Annotated[
    float, Meta(description="Seconds after which the host kills it.", gt=0, le=LONGEST_JOB_S, examples=[7200])
]


class StartedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was begun."""

    job: str
    """Its name, for job_poll and job_kill."""
    host: str
    repeated: bool
    """Whether an earlier delivery of the same call had begun it."""


class PolledJob(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is, and what it has written."""

    status: JobState
    stdout: JobOutput
    stderr: JobOutput
    untrusted: bool = True


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of the caller on one host, the newest first."""

    host: str
    jobs: tuple[JobState, ...]
    total: int
    """How many there are; only the newest hundred are listed."""
    untrusted: bool = True


def probe_job_start(
    hosts: Hosts,
    attempt: Run,
    *,
    argv: list[str] | None,
    script: str | None,
    host: str | None,
    cwd: str | None,
    env: dict[str, str] | None,
    stdin: str | None,
    time_limit_s: float,
) -> StartedJob | object:
    """Look whether an earlier delivery has begun the job."""
    order(argv, script, cwd=cwd, env=env, stdin=stdin, timeout_s=time_limit_s)
    found = hosts.find(host, attempt)
    attempt.executed_on(found.name)
    place = place_of(hosts, attempt.call.tenant, attempt.call.id)
    answer = _look(hosts, found, attempt, place, offsets=(0, 0), max_bytes=1)
    if answer.opened[:1] == ["missing"]:
        return NOT_DONE
    return StartedJob(job=job_name(found.name, attempt.call.id), host=found.name, repeated=True)


@operation(
    effect=Effect.VERIFIABLE,
    probe=probe_job_start,
    time_limit_s=60,
    from_context={"host": "host"},
    marks_effect=True,
    destructive=True,
    changes=HOST,
)
def job_start(
    hosts: Hosts,
    attempt: Run,
    *,
    argv: Argv = None,
    script: Script = None,
    host: HostName = None,
    cwd: Cwd = None,
    env: Env = None,
    stdin: Stdin = None,
    time_limit_s: JobLimit = 3600.0,
) -> StartedJob:
    """Start a command on a remote host and let it go on in the background.

    For what takes longer than a call may: look at it with job_poll, end it with job_kill. It goes on when every
    connection is closed and when Toolswarm stops; the host itself ends it when its time is up, or when it has written
    more to an output than the operator allows. A restart of the host ends it, too (its state is `lost` then). What it
    has written can be read for a week after its end.
    """
    wanted = order(argv, script, cwd=cwd, env=env, stdin=stdin, timeout_s=time_limit_s)
    found = hosts.find(host, attempt)
    attempt.executed_on(found.name)
    what = Errand(host=found, order=wanted, place=place_of(hosts, attempt.call.tenant, attempt.call.id))
    info = JobInfo(program=wanted.argv[0][:200], started_at=round(time.time(), 3), time_limit_s=time_limit_s)
    outcome = deliver_job(hosts, attempt, what, info=packed(info))
    word = outcome.opened[0] if outcome.opened else ""
    if word == "unclaimable":
        raise OperationFailed(
            f"host {found.name} cannot keep jobs: its home folder cannot be written to; set droplet.runs_folder",
            code="permission",
            before_effect=True,
            host=found.name,
        )
    check_begun(what, outcome)
    return StartedJob(job=job_name(found.name, attempt.call.id), host=found.name, repeated=word == "attached")


@operation(effect=Effect.READ, time_limit_s=90)
def job_poll(
    hosts: Hosts,
    attempt: Run,
    *,
    job: JobName,
    stdout_offset: Annotated[
        int, Meta(description="Read standard output from this byte on (next_offset of the last answer).", ge=0)
    ] = 0,
    stderr_offset: Annotated[int, Meta(description="The same for standard error.", ge=0)] = 0,
    max_bytes: Annotated[
        int, Meta(description="How many bytes of each output at most.", ge=256, le=1_048_576, examples=[65_536])
    ] = 65_536,
    wait_s: Annotated[
        float,
        Meta(description="Seconds to wait for new output or the job's end, if there is neither.", ge=0, le=60),
    ] = 0.0,
) -> PolledJob:
    """Look at a job.

    Whether it still runs, how it ended, and what it has written since the last look.
    """
    found, place = _find(hosts, attempt, job)
    give_up_at = time.monotonic() + min(wait_s, attempt.remaining_s() - 5)
    while True:
        offsets = (stdout_offset, stderr_offset)
        answer = _look(hosts, found, attempt, place, offsets=offsets, max_bytes=max_bytes)
        state = _state(found, job, place, answer)
        stdout, stderr = outputs(answer, stdout_offset=stdout_offset, stderr_offset=stderr_offset)
        if state.state != "running" or stdout.text or stderr.text or time.monotonic() > give_up_at:
            return PolledJob(status=state, stdout=stdout, stderr=stderr)
        _pause(attempt, min(_LOOK_EVERY_S, give_up_at - time.monotonic()))


@operation(effect=Effect.IDEMPOTENT, time_limit_s=60, destructive=True, changes=HOST)
def job_kill(hosts: Hosts, attempt: Run, *, job: JobName) -> JobState:
    """Kill a job with everything in its session.

    Gently first (SIGTERM), and after a second not (SIGKILL); returns how it is afterwards. A job that has ended by
    then is left as it is. A process that has made itself a session of its own is not found.
    """
    found, place = _find(hosts, attempt, job)
    state = _state(found, job, place, _look(hosts, found, attempt, place, offsets=(0, 0), max_bytes=1))
    if state.state != "running":
        return state
    with hosts.session(found, attempt) as session:
        answer = session.say(kill_line(place, (), why="killed"))
    state = _state(found, job, place, _look(hosts, found, attempt, place, offsets=(0, 0), max_bytes=1))
    if state.state == "running" or answer is None or answer[0] not in (0, 3):
        raise OperationFailed(
            f"job {job} could not be killed on host {found.name}; try again, or look there",
            code="not_killed",
            retryable=True,
            host=found.name,
            job=job,
        )
    return state


@operation(effect=Effect.READ, time_limit_s=30, from_context={"host": "host"})
def job_list(hosts: Hosts, attempt: Run, *, host: HostName = None) -> JobList:
    """List your jobs on a remote host, the newest first.

    Those that run, and those that ended within a week.
    """
    found = hosts.find(host, attempt)
    attempt.executed_on(found.name)
    folder = place_of(hosts, attempt.call.tenant, "-").folder
    answer = ask(hosts, found, attempt, lambda mark: list_line(mark, folder), max_bytes=_LIST_BYTES)
    lines = answer.stdout.decode("ascii", "replace").splitlines()
    states = [state for line in lines if (state := parsed_state(found.name, line.split())) is not None]
    states.sort(key=lambda state: state.started_at, reverse=True)
    return JobList(host=found.name, jobs=tuple(states[:_MOST_LISTED]), total=len(states))


def _find(hosts: Hosts, attempt: Run, job: str) -> tuple[HostEntry, Place]:
    name, call_id = split_name(job)
    found = hosts.find(name, attempt)
    attempt.executed_on(found.name)
    return found, place_of(hosts, attempt.call.tenant, call_id)


def _look(
    hosts: Hosts, host: HostEntry, attempt: Run, place: Place, *, offsets: tuple[int, int], max_bytes: int
) -> Answer:
    def line(mark: str) -> str:
        return poll_line(mark, place, stdout_offset=offsets[0], stderr_offset=offsets[1], max_bytes=max_bytes)

    return ask(hosts, host, attempt, line, max_bytes=max_bytes)


def _state(host: HostEntry, job: str, place: Place, answer: Answer) -> JobState:
    state = parsed_state(host.name, answer.opened)
    if state is None:
        raise no_such(job)
    return state


def _pause(attempt: Run, pause_s: float) -> None:
    until = time.monotonic() + pause_s
    while (left_s := until - time.monotonic()) > 0:
        if attempt.stop_requested():
            raise OperationFailed("the call was stopped while it waited for the job", code="stopped")
        time.sleep(min(left_s, _TICK_S))

"""Where jobs lie on a host, and what the host tells of one."""

import base64
import binascii
import hashlib
import re
from typing import Literal

import msgspec

from tasks.confined import shown
from tasks.droplet.asking import Answer
from tasks.droplet.hosts import Hosts
from tasks.droplet.order import Place
from tasks.droplet.outcome import signal_name
from tasks.droplet.window import without_half_character
from tasks.text import printable
from toolswarm.errors import OperationFailed

LONGEST_JOB_S = 86_400.0
_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
State = Literal["running", "ended", "lost"]
_STATES: dict[str, State] = {"running": "running", "ended": "ended", "lost": "lost"}


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered with a job."""

    program: str
    started_at: float
    """Unix seconds, by the worker's clock."""
    time_limit_s: float


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is."""

    job: str
    host: str
    state: State
    """`lost`: what waited for its end on the host is gone (a restart), so that nobody knows it."""
    exit_code: int | None
    """None until it has ended."""
    signal: str | None
    ended_by: str | None
    """`killed`, `time_limit` or `output_limit`; none when it ended by itself."""
    program: str
    started_at: float
    """Unix seconds, by the worker's clock."""
    ended_at: float | None
    """Unix seconds, by the host's clock."""


class JobOutput(msgspec.Struct, frozen=True, kw_only=True):
    """A part of one output."""

    text: str
    """Control sequences are spelled out."""
    next_offset: int
    """Where to go on, in bytes."""
    size_bytes: int
    """What it has written by now."""


def job_name(host: str, call_id: str) -> str:
    """What callers name a job by."""
    return f"{host}:{call_id}"


def split_name(job: str) -> tuple[str, str]:
    """The host and the id.

    Raises:
        OperationFailed: `not_found`.
    """
    host, _, call_id = job.rpartition(":")
    if not host or not _ID.fullmatch(call_id):
        raise no_such(job)
    return host, call_id


def no_such(job: str) -> OperationFailed:
    """Also for jobs of others."""
    return OperationFailed(
        f"there is no job {shown(job)}, or no longer; see job_list", code="not_found", before_effect=True
    )


def place_of(hosts: Hosts, tenant: str, call_id: str) -> Place:
    """Each tenant has a folder of its own, so that none sees another's jobs."""
    settings = hosts.settings
    return Place(
        folder=f"{settings.runs_folder}/jobs/{hashlib.sha256(tenant.encode()).hexdigest()[:16]}",
        run_id=call_id,
        max_written_bytes=settings.max_written_bytes,
        kept_s=settings.jobs_kept_s + LONGEST_JOB_S,
    )


def packed(info: JobInfo) -> str:
    """As one word."""
    return base64.urlsafe_b64encode(msgspec.json.encode(info)).decode()


def parsed_state(host: str, words: list[str]) -> JobState | None:
    """From the words `ID STATE EXIT_CODE WHY ENDED_AT INFO`; None when they are no job of ours."""
    if len(words) != 6 or words[1] not in _STATES:
        return None
    call_id, state, code, why, ended_at, info = words
    try:
        known = msgspec.json.decode(base64.urlsafe_b64decode(info), type=JobInfo)
    except (binascii.Error, msgspec.DecodeError):
        return None
    exit_code = int(code) if code.isdecimal() else None
    return JobState(
        job=job_name(host, call_id),
        host=host,
        state=_STATES[state],
        exit_code=exit_code,
        signal=None if exit_code is None else signal_name(exit_code),
        ended_by=None if why == "-" else why,
        program=known.program,
        started_at=known.started_at,
        ended_at=float(ended_at) if ended_at.isdecimal() else None,
    )


def outputs(answer: Answer, *, stdout_offset: int, stderr_offset: int) -> tuple[JobOutput, JobOutput]:
    """Both outputs of an answer."""
    sizes = [int(word) if word.isdecimal() else 0 for word in [*answer.closed, "0", "0"][:2]]
    return (
        _output(answer.stdout, offset=stdout_offset, size_bytes=sizes[0]),
        _output(answer.stderr, offset=stderr_offset, size_bytes=sizes[1]),
    )


def _output(raw: bytes, *, offset: int, size_bytes: int) -> JobOutput:
    if offset + len(raw) < size_bytes:
        raw = without_half_character(raw)
    return JobOutput(text=printable(raw), next_offset=offset + len(raw), size_bytes=max(size_bytes, offset + len(raw)))

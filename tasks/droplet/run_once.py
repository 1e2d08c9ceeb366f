"""Running a command on a host once, however often it is asked for under the same id.

The host remembers who has claimed the id (tasks/droplet/remote_script.py). So a connection that breaks in the middle
is made anew, and the same line sent again: it finds the run and waits for its end. Only where the host cannot keep a
claim does a broken connection leave the outcome open; then `in_doubt` says so, and nothing is sent a second time.
"""

import secrets
import threading
import time
from collections.abc import Callable

from tasks.droplet.hosts import Hosts
from tasks.droplet.inventory import HostEntry
from tasks.droplet.order import Errand, Mode, Order, Place, kill_line
from tasks.droplet.outcome import Heard, Outcome, RemoteResult, lost, result_of, stopped
from tasks.droplet.remote import RemoteCommand, RemoteStream
from tasks.droplet.session import LOST, Session
from tasks.operation import NOT_DONE, Run
from toolswarm.errors import OperationFailed

GRACE_S = 3.0
RESERVE_S = 3 * GRACE_S
"""Kept back from the attempt's time, to kill the command and to answer with its output so far."""
_LONGEST_PAUSE_S = 1.0
_WAIT_FOR_CHANNEL_S = 10.0


class Beginning:
    """The point of no return of one attempt, passed once, whichever host comes first; safe in threads."""

    def __init__(self, attempt: Run) -> None:
        self._attempt = attempt
        self._lock = threading.Lock()
        self._begun = False

    def __call__(self) -> None:
        """Record it, unless it is recorded."""
        with self._lock:
            if not self._begun:
                self._attempt.begin_effect()
                self._begun = True


def errand(hosts: Hosts, host: HostEntry, attempt: Run, order: Order) -> Errand:
    """An errand of this call; two names for one machine are two hosts."""
    settings = hosts.settings
    place = Place(
        folder=f"{settings.runs_folder}/runs",
        run_id=f"{attempt.call.id}.{host.name}",
        max_written_bytes=settings.max_written_bytes,
        kept_s=settings.runs_kept_s,
    )
    return Errand(host=host, order=order, place=place)


def run_once(hosts: Hosts, attempt: Run, what: Errand, *, begin: Callable[[], None], mode: Mode) -> RemoteResult:
    """Run it, or wait for what an earlier delivery has begun.

    Raises:
        OperationFailed: it did not begin, was ended, or its outcome is not known (`in_doubt`).
    """
    deliveries = _Deliveries(hosts, attempt, what, begin)
    return deliveries.conclude(deliveries.make_until_told(mode))


def deliver_job(hosts: Hosts, attempt: Run, what: Errand, *, info: str) -> Outcome:
    """Have it begun in the background, unless an earlier delivery has.

    Raises:
        OperationFailed: it did not begin, or that is not known (`in_doubt`).
    """
    deliveries = _Deliveries(hosts, attempt, what, Beginning(attempt), info=info)
    outcome = deliveries.make_until_told(Mode.JOB)
    if outcome.stopped:
        raise lost(what, outcome, ran_s=deliveries.ran_s)
    return outcome


def probe_once(hosts: Hosts, attempt: Run, what: Errand) -> RemoteResult | object:
    """What an earlier delivery has done, waiting for its end; NOT_DONE when there was none.

    Raises:
        OperationFailed: it cannot be told.
    """
    deliveries = _Deliveries(hosts, attempt, what, begin=lambda: None)
    outcome = deliveries.make(Mode.PROBE)
    if outcome is None or outcome.cut_off:
        raise lost(what, outcome, ran_s=deliveries.ran_s)
    if outcome.opened[:1] == ["none"]:
        return NOT_DONE
    return deliveries.conclude(outcome)


class _Deliveries:
    """One after the other, of the same errand, within one time."""

    def __init__(self, hosts: Hosts, attempt: Run, what: Errand, begin: Callable[[], None], *, info: str = "-") -> None:
        self._hosts = hosts
        self._attempt = attempt
        self._what = what
        self._begin = begin
        self._info = info
        self._timeout_s = min(what.order.timeout_s, max(0.1, attempt.remaining_s() - RESERVE_S))
        self._began_at: float | None = None

    @property
    def ran_s(self) -> float:
        """Since the first was sent."""
        return 0.0 if self._began_at is None else time.monotonic() - self._began_at

    @property
    def over(self) -> bool:
        """Whether there is no time for another one, or no wish."""
        return self._attempt.stop_requested() or self.ran_s > self._timeout_s

    def make_until_told(self, mode: Mode) -> Outcome:
        """Deliver until the end is told, or we give up on it."""
        pause_s = 0.1
        while True:
            outcome = self.make(mode)
            if outcome is not None and not outcome.cut_off:
                return outcome
            if self.over or (outcome is not None and outcome.opened[:1] == ["direct"]):
                raise lost(self._what, outcome, ran_s=self.ran_s)
            mode = Mode.JOB if mode is Mode.JOB else Mode.AGAIN
            self._pause(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def make(self, mode: Mode) -> Outcome | None:
        """Deliver once; None when the host could not be reached again.

        Raises:
            OperationFailed: the host could not be reached for the first time.
        """
        first = self._began_at is None
        limit_s = max(_WAIT_FOR_CHANNEL_S, self._timeout_s) if first else self._timeout_s - self.ran_s
        try:
            with self._hosts.session(self._what.host, self._attempt, timeout_s=limit_s) as session:
                outcome = self._deliver(session, mode)
                if not outcome.cut_off:
                    self._hosts.tidy(session, self._what.place.folder, kept_s=self._what.place.kept_s)
                return outcome
        except OperationFailed as error:
            if self._began_at is None or not error.failure_retryable:
                raise
            return None

    def _pause(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while not self.over and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.05))

    def conclude(self, outcome: Outcome) -> RemoteResult:
        """What the caller is told."""
        what, ran_s = self._what, self.ran_s
        if outcome.stopped and not outcome.connected:
            raise lost(what, outcome, ran_s=ran_s)
        if outcome.stopped:
            raise stopped(what, outcome, ran_s=ran_s)
        return result_of(what, outcome, ran_s=ran_s)

    def _deliver(self, session: Session, mode: Mode) -> Outcome:
        what = self._what
        mark = f"toolswarm-{secrets.token_hex(8)}"
        line = what.order.line(mark, place=what.place, mode=mode, info=self._info)
        out, err = (Heard(self._attempt, what, name) for name in ("stdout", "stderr"))
        command = RemoteCommand(
            session.channel,
            stdin=what.order.input,
            stdout=RemoteStream(mark, out.add),
            stderr=RemoteStream(mark, err.add),
        )
        heard = (out, err)
        if self._began_at is None:
            self._begin()
            self._began_at = time.monotonic()
        try:
            command.start(line)
        except LOST:
            session.is_connected()  # takes a dead connection out of use
            return Outcome.of(command, heard, connected=False)
        if command.pump(lambda: self.over):
            return Outcome.of(command, heard, connected=command.has_ended or session.is_connected())
        why = "stopped" if self._attempt.stop_requested() else "time_limit"
        killed = self._kill(session, command, why)
        return Outcome.of(command, heard, connected=killed or session.is_connected(), stopped=why, killed=killed)

    def _kill(self, session: Session, command: RemoteCommand, why: str) -> bool:
        """End the run with all that its session holds, gently, then not; whether the host has confirmed it."""
        give_up_at = time.monotonic() + GRACE_S
        opened = command.stdout.marked
        if command.pump(lambda: opened.opened is not None or time.monotonic() > give_up_at):
            return command.has_ended  # by itself, just now
        words = opened.opened
        if words is None:
            return False  # the login shell has not come to it
        answer = session.tell(kill_line(self._what.place, words[1:], why=why))
        if answer is None:
            return False
        give_up_at = time.monotonic() + GRACE_S
        command.pump(lambda: time.monotonic() > give_up_at)
        return answer[0] == 0

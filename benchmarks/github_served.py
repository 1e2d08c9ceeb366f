"""Calls served to their end: ours as the workers do it, PyGithub's as it comes, and what became of the creations."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import requests
from github import Auth, Github, GithubException

from tasks.github import TOOL
from tasks.operation import NOT_DONE, Postponed
from tests.servers.github import ALICE_TOKEN, FakeGithub
from tests.servers.github_faults import Fault, bad_gateway, reset, too_many
from tests.tasks.github_calls import GithubCalls
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect
from workers.retry import pause_s

DEMO = "alice/demo"
MAX_ATTEMPTS = 3
"""As `store.max_attempts`."""
LOOK_AFTER_S = 1.0
"""As the workers: so much later another attempt looks whether the effect happened."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """What came of a number of calls."""

    calls: int
    served: int
    """Calls that were told to have succeeded."""
    creations: int
    """Calls that wanted something created."""
    duplicates: int
    """Things that were created once too often."""
    unreported: int
    """Things that were created, and whose call was told that it had failed."""
    requests: int
    took_s: float
    longest_s: float
    """The longest that one call held its thread; ours leaves it while it waits."""


def mix() -> tuple[Fault, ...]:
    """5 % 502 after the server has done it, 5 % reset (half of them after), 2 % 429 that asks for a second."""
    return (
        bad_gateway(after=True).always(0.05),
        reset(after=True).always(0.025),
        reset().always(0.025),
        too_many(retry_after="1").always(0.02),
    )


def serve(github: FakeGithub, calls: int, *, create: Callable[[str], float], read: Callable[[], float]) -> Served:
    """Half reads, half creations of issues, each with a title of its own.

    `create` and `read` return how long they held their thread, and raise when the call was not served.
    """
    chance = random.Random(1)
    wanted = set[str]()
    failed = set[str]()
    served, longest_s = 0, 0.0
    github.forget()
    began = time.perf_counter()
    for number in range(calls):
        title = f"Issue of call {number}"
        creates = chance.random() < 0.5
        if creates:
            wanted.add(title)
        try:
            held_s = create(title) if creates else read()
        except NotServed as error:
            failed.add(title)
            held_s = error.held_s
        else:
            served += 1
        longest_s = max(longest_s, held_s)
    took_s = time.perf_counter() - began
    made = Counter(issue.title for issue in github.find(DEMO).issues.values() if issue.title in wanted)
    return Served(
        calls=calls,
        served=served,
        creations=len(wanted),
        duplicates=sum(made.values()) - len(made),
        unreported=len(failed & made.keys()),
        requests=len(github.requests),
        took_s=took_s,
        longest_s=longest_s,
    )


class NotServed(Exception):
    """The call ended with an error."""

    def __init__(self, held_s: float) -> None:
        super().__init__(f"after {held_s:.1f} s")
        self.held_s = held_s


class AsWorkersDo:
    """Operations of ours with the workers' rules: wait when postponed, look before repeating, three attempts."""

    def __init__(self, calls: GithubCalls) -> None:
        self._calls = calls

    def create(self, title: str) -> float:
        """Create an issue."""
        return self._serve("create_issue", repo=DEMO, title=title)

    def read(self) -> float:
        """Read an issue."""
        return self._serve("get_issue", repo=DEMO, number=1)

    def _serve(self, operation: str, **arguments: object) -> float:
        effect = TOOL.operations[operation].effect
        run, in_doubt, longest_s, attempt = self._calls.run(), False, 0.0, 1
        while True:
            began = time.perf_counter()
            try:
                if in_doubt:
                    found = self._calls.probe(operation, run, **arguments)
                    if found is not NOT_DONE:
                        return max(longest_s, time.perf_counter() - began)
                    in_doubt = False
                self._calls.do(operation, run, **arguments)
                return max(longest_s, time.perf_counter() - began)
            except Postponed as error:
                longest_s = max(longest_s, time.perf_counter() - began)
                time.sleep(error.delay_s)  # a worker gives its slot to another call meanwhile
                continue
            except OperationFailed as error:
                longest_s = max(longest_s, time.perf_counter() - began)
                begun = run.effects_begun > 0 and not error.before_effect
                in_doubt = in_doubt or (error.in_doubt and effect is Effect.VERIFIABLE)
                wait_s = LOOK_AFTER_S if in_doubt else _pause_s(error, effect, begun=begun, attempt=attempt)
                if wait_s is None or attempt == MAX_ATTEMPTS:
                    raise NotServed(longest_s) from error
            time.sleep(wait_s)
            attempt += 1


def _pause_s(error: OperationFailed, effect: Effect, *, begun: bool, attempt: int) -> float | None:
    return pause_s(
        error.info(),
        effect=effect,
        effect_begun=begun,
        attempt=attempt,
        now=time.time(),
        random=random.random(),
    )


class WithPyGithub:
    """PyGithub with its own retry (or, with `retries=False`, none); its pauses between requests are left out."""

    def __init__(self, url: str, *, retries: bool = True) -> None:
        auth = Auth.Token(ALICE_TOKEN)
        # Only what is not measured differs from the defaults: 0.25 s and 1 s between requests would be all one sees.
        self._client = (
            Github(auth=auth, base_url=url, seconds_between_requests=0, seconds_between_writes=0)
            if retries
            else Github(auth=auth, base_url=url, seconds_between_requests=0, seconds_between_writes=0, retry=None)
        )

    def create(self, title: str) -> float:
        """Create an issue."""
        return _timed(lambda: self._client.get_repo(DEMO).create_issue(title))

    def read(self) -> float:
        """Read an issue."""
        return _timed(lambda: self._client.get_repo(DEMO).get_issue(1))

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    try:
        act()
    except (GithubException, requests.RequestException) as error:
        raise NotServed(time.perf_counter() - began) from error
    return time.perf_counter() - began

"""A fake api.github.com for tests and benchmarks: stateful, faithful to GitHub's own description, and able to fail.

```python
with FakeGithub() as github:                       # or the fixture `fake_github`, which has `populate` in it
    github.token("alice", token="ghp_alice")
    github.repository("alice/demo", {"README.md": "# Demo"}, private=True)
    github.fail(bad_gateway(after=True).on("POST"))  # the next POST has its effect, and 502 comes back
    ... point a client at github.url ...
    assert [each.operation for each in github.requests] == ["POST /repos/{owner}/{repo}/issues"]
```

`base_url` alone is needed to use it (with `/api/v3` behind it, it is a GitHub Enterprise). Each answer begins with
GitHub's own example and is checked against GitHub's OpenAPI description; leaving the context fails when one was not as
described. Time is the true time plus `advance(seconds)`: rate limits, tokens and stamps follow it. Other processes
reach the same controls over `/_control` (see `github_control.py`); `python -m tests.servers.github --port N` serves
the fake alone.
"""

import argparse
import signal
import threading
from collections.abc import Generator, Iterable, Mapping
from types import FrameType
from typing import Any, Self, TypeVar

import pytest

from tests.servers.github_engine import Engine
from tests.servers.github_faults import Fault
from tests.servers.github_git import Entry
from tests.servers.github_server import GithubServer
from tests.servers.github_wire import Logged, fingerprint
from tests.servers.github_world import ALL_SCOPES, Account, App, Comment, Installation, Issue, Pull, Repository

ALICE_TOKEN = "ghp_alice0000000000000000000000000000000"
BOB_TOKEN = "ghp_bob000000000000000000000000000000000"
Made = TypeVar("Made")


class FakeGithub:
    """The server with its state; start and stop it, or use it as a context."""

    def __init__(self, *, port: int = 0, seed: int = 0) -> None:
        self.engine = Engine()
        self.world = self.engine.world
        self.limits = self.engine.limits
        self.engine.plan.seed(seed)
        self._server = GithubServer(self.engine, port)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = self._server.url

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more; all connections are closed."""
        self._server.shutdown()
        self._server.close_connections()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Fail if an answer was not as GitHub describes it."""
        found = "\n".join(self.engine.violations)
        assert not found, f"the fake answered what GitHub would not:\n{found}"

    # -- what there is -----------------------------------------------------------------------------------------

    def account(self, login: str, **facts: Any) -> Account:
        """A person; facts are fields of `Account`."""
        return _with(self.world.add_account(login), facts)

    def organization(self, login: str, members: Iterable[str] = ()) -> Account:
        """An organization; its members may do everything in it."""
        return self.world.add_account(login, is_organization=True, members=members)

    def token(self, login: str, *, token: str, scopes: Iterable[str] = ALL_SCOPES) -> str:
        """Let a token speak for a person."""
        self.world.add_token(token, login, scopes)
        return token

    def revoke(self, token: str) -> None:
        """Bad credentials from now on."""
        del self.world.tokens[token]

    def app(self, number: int, public_key: str) -> App:
        """A GitHub App whose JWTs are signed with the private half of this key (PEM)."""
        self.world.apps[number] = App(id=number, public_key=public_key)
        return self.world.apps[number]

    def installation(self, number: int, *, app: int, account: str) -> Installation:
        """An app on an account, with all of its repositories."""
        self.world.installations[number] = Installation(id=number, app=app, account=account)
        return self.world.installations[number]

    def repository(
        self, full_name: str, files: Mapping[str, str | bytes | Entry] | None = None, **facts: Any
    ) -> Repository:
        """A repository, its files in one first commit; facts are fields of `Repository`."""
        owner, _, name = full_name.partition("/")
        with self.engine.lock:
            made = _with(self.world.add_repository(owner, name), facts)
            if files:
                self.push(full_name, files, message="Initial commit")
        return made

    def push(
        self,
        full_name: str,
        files: Mapping[str, str | bytes | Entry | None],
        *,
        branch: str | None = None,
        message: str = "Change files",
        by: str | None = None,
    ) -> str:
        """One more commit on a branch (which starts where the default one is); its hash."""
        found = self.find(full_name)
        changes = {path: each.encode() if isinstance(each, str) else each for path, each in files.items()}
        with self.engine.lock:
            main = found.git.refs.get(f"refs/heads/{found.default_branch}")
            if branch is not None and main is not None:
                found.git.refs.setdefault(f"refs/heads/{branch}", main)
            return self.world.commit(found, changes, message=message, by=by or found.owner, branch=branch)

    def issue(self, full_name: str, title: str, *, author: str | None = None, **facts: Any) -> Issue:
        """An issue; facts are fields of `Issue`."""
        found = self.find(full_name)
        now = self.world.now()
        with self.engine.lock:
            made = Issue(
                number=max(found.issues, default=0) + 1,
                id=next(self.world.ids),
                author=self.world.add_account(author or found.owner).login,
                title=title,
                body=None,
                created_at=now,
                updated_at=now,
            )
            found.issues[made.number] = _with(made, facts)
        for login in made.assignees:
            self.world.add_account(login)
        return made

    def comment(self, full_name: str, number: int, body: str, *, author: str | None = None) -> Comment:
        """A comment on an issue or a pull request."""
        found = self.find(full_name)
        by = self.world.add_account(author or found.owner).login
        now = self.world.now()
        made = Comment(id=next(self.world.ids), issue=number, author=by, body=body, created_at=now, updated_at=now)
        with self.engine.lock:
            found.comments[made.id] = made
        return made

    def pull(self, full_name: str, title: str, *, head: str, base: str = "main", author: str | None = None) -> Pull:
        """A pull request from one branch to another."""
        found = self.find(full_name)
        number = self.issue(full_name, title, author=author).number
        made = Pull(number=number, head=head, base=base, head_sha=found.git.refs[f"refs/heads/{head}"])
        with self.engine.lock:
            found.pulls[number] = made
        return made

    def find(self, full_name: str) -> Repository:
        """The repository of this name."""
        with self.engine.lock:
            found = self.world.find(full_name)
        assert found is not None, f"there is no {full_name}"
        return found

    def rename(self, full_name: str, new_name: str) -> None:
        """Give a repository another name (`owner/name`); GitHub redirects the old one."""
        self.world.rename(self.find(full_name), new_name)

    def content(self, full_name: str, path: str, branch: str | None = None) -> bytes | None:
        """What a file holds now."""
        found = self.find(full_name)
        head = found.git.refs.get(f"refs/heads/{branch or found.default_branch}")
        entry = found.git.find(head, path) if head is not None else None
        return None if entry is None else found.git.blobs[entry.sha]

    # -- what happens ------------------------------------------------------------------------------------------

    def fail(self, *faults: Fault) -> None:
        """Expect these too; for one request the first that fits is taken."""
        self.engine.plan.add(*faults)

    def heal(self) -> None:
        """Let everything work again."""
        self.engine.plan.clear()

    def seed(self, seed: int) -> None:
        """Draw the chances of faults anew."""
        self.engine.plan.seed(seed)

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        self.world.clock_ahead_s += seconds

    def limit(
        self, token: str, bucket: str = "core", *, remaining: int | None = None, reset_in_s: float | None = None
    ) -> None:
        """Let the owner of a token have so much left in a bucket, for so long."""
        viewer = self.world.tokens[token]
        self.limits.set(viewer, bucket, self.world.now(), remaining=remaining, reset_in_s=reset_in_s)

    def used(self, token: str, bucket: str = "core") -> int:
        """What the owner of a token has used of a bucket."""
        return self.limits.window(self.world.tokens[token], bucket, self.world.now()).used

    def latency(self, seconds: float) -> None:
        """Let each answer take so long."""
        self._server.latency_s = seconds

    # -- what was asked ----------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Logged]:
        """All so far, oldest first."""
        with self.engine.lock:
            return list(self.engine.requests)

    def forget(self) -> None:
        """Count requests from here."""
        with self.engine.lock:
            self.engine.requests.clear()

    def sent(self) -> list[str]:
        """All requests as `METHOD path`, for tests that know exactly what is to be sent."""
        return [f"{each.method} {each.path}" for each in self.requests]

    def outside(self, *full_names: str) -> list[Logged]:
        """Requests that went to other repositories than these."""
        allowed = {name.lower() for name in full_names}
        return [each for each in self.requests if each.repository and each.repository not in allowed]

    @staticmethod
    def fingerprint(token: str) -> str:
        """How the log names a token."""
        return fingerprint(token)


def _with(made: Made, facts: Mapping[str, Any]) -> Made:
    for name, value in facts.items():
        assert hasattr(made, name), f"{type(made).__name__} has no {name}"
        setattr(made, name, value)
    return made


def populate(github: FakeGithub) -> None:
    """A small world: alice (with bob as another person), her organization acme, and a few repositories."""
    github.account("alice", name="Alice Liddell", email="alice@example.com")
    github.account("bob", name="Bob")
    github.organization("acme", members=["alice"])
    github.token("alice", token=ALICE_TOKEN)
    github.token("bob", token=BOB_TOKEN)
    github.repository(
        "alice/demo",
        {"README.md": "# Demo\n", "src/app.py": "print('hello')\n", "docs/guide.md": "Read me.\n"},
        description="A demonstration",
        language="Python",
        topics=["demo"],
        stars=7,
    )
    github.repository("acme/tmpl", {"README.md": "# Template\n", "src/main.py": "pass\n"}, is_template=True)
    github.push("acme/tmpl", {"extra.txt": "more\n"}, branch="extra")
    github.repository("acme/weather", {"README.md": "# Weather\n"}, private=True)
    github.repository("bob/secret", {"README.md": "# Nothing for alice\n"}, private=True)
    github.issue("alice/demo", "Login fails", body="It crashes on login.", labels=["bug"], author="bob")


@pytest.fixture
def fake_github() -> Generator[FakeGithub, None, None]:
    """A fresh fake with `populate`'s world; a mistake of the fake itself fails the test."""
    with FakeGithub() as github:
        populate(github)
        yield github


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.github", description="A fake api.github.com.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any)")
    parser.add_argument("--seed", type=int, default=0, help="of the chances of faults")
    arguments = parser.parse_args()
    over = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with FakeGithub(port=arguments.port, seed=arguments.seed) as github:
        populate(github)
        print(f"GitHub on {github.url} (tokens {ALICE_TOKEN}, {BOB_TOKEN})", flush=True)
        over.wait()


if __name__ == "__main__":
    main()

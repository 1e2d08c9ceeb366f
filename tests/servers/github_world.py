"""What the fake GitHub knows: accounts, tokens, apps, repositories, issues and pull requests, and who may see what."""

import itertools
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.servers.github_git import FILE, Commit, Entry, Git, Signature

ALL_SCOPES = frozenset({"repo", "user", "workflow", "read:org"})


@dataclass(kw_only=True)
class Account:
    """A person or an organization."""

    login: str
    id: int
    is_organization: bool = False
    name: str | None = None
    email: str | None = None
    location: str | None = None
    followers: int = 0
    created_at: float = 1_262_304_000.0
    members: set[str] = field(default_factory=set[str])


@dataclass(kw_only=True)
class Issue:
    """An issue; a pull request has one of the same number."""

    number: int
    id: int
    author: str
    title: str
    body: str | None
    created_at: float
    updated_at: float
    state: str = "open"
    state_reason: str | None = None
    labels: list[str] = field(default_factory=list[str])
    assignees: list[str] = field(default_factory=list[str])
    closed_at: float | None = None
    closed_by: str | None = None


@dataclass(kw_only=True)
class Comment:
    """A comment on an issue or a pull request."""

    id: int
    issue: int
    author: str
    body: str
    created_at: float
    updated_at: float


@dataclass(kw_only=True)
class Pull:
    """What a pull request has beside its issue."""

    number: int
    head: str
    """Branch."""
    base: str
    head_sha: str
    """As it was when the pull request was closed; while it is open the branch says it."""
    draft: bool = False
    merged_at: float | None = None
    merged_by: str | None = None
    merge_sha: str | None = None


@dataclass(kw_only=True)
class Repository:
    """A repository with all that is in it."""

    id: int
    owner: str
    name: str
    private: bool
    created_at: float
    updated_at: float
    pushed_at: float
    description: str | None = None
    homepage: str | None = None
    default_branch: str = "main"
    language: str | None = None
    license: str | None = None
    topics: list[str] = field(default_factory=list[str])
    stars: int = 0
    forks: int = 0
    fork: bool = False
    archived: bool = False
    is_template: bool = False
    has_issues: bool = True
    template: int | None = None
    collaborators: set[str] = field(default_factory=set[str])
    protected: set[str] = field(default_factory=set[str])
    git: Git = field(default_factory=Git)
    arriving: tuple[float, Git] | None = None
    """When the files of the template will be there, and they."""
    issues: dict[int, Issue] = field(default_factory=dict[int, Issue])
    pulls: dict[int, Pull] = field(default_factory=dict[int, Pull])
    comments: dict[int, Comment] = field(default_factory=dict[int, Comment])

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    def resolve(self, name: str) -> str | None:
        """The commit that a branch, tag, ref or (short) hash means; HEAD is the default branch's."""
        return self.git.resolve(self.default_branch if name == "HEAD" else name)


@dataclass(frozen=True, kw_only=True)
class App:
    """A GitHub App: signs with the private half of this key (PEM)."""

    id: int
    public_key: str


@dataclass(frozen=True, kw_only=True)
class Installation:
    """An app on an account; `repositories` None: all of the account's."""

    id: int
    app: int
    account: str
    repositories: frozenset[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who asks. Nobody, a person with a token, an installation with a token, or an app with a JWT."""

    login: str | None = None
    scopes: frozenset[str] = frozenset()
    installation: Installation | None = None
    app: App | None = None
    expires_at: float | None = None

    @property
    def budget(self) -> str:
        """Whose rate limit it uses: all tokens of one person share one."""
        if self.installation is not None:
            return f"installation {self.installation.id}"
        return self.login or (f"app {self.app.id}" if self.app else "")


@dataclass(kw_only=True)
class World:
    """Everything; every change is made by one thread at a time."""

    accounts: dict[str, Account] = field(default_factory=dict[str, Account])
    """By login, lower case."""
    repositories: dict[int, Repository] = field(default_factory=dict[int, Repository])
    moved: dict[str, int] = field(default_factory=dict[str, int])
    """Former full name, lower case -> repository."""
    tokens: dict[str, Viewer] = field(default_factory=dict[str, Viewer])
    apps: dict[int, App] = field(default_factory=dict[int, App])
    installations: dict[int, Installation] = field(default_factory=dict[int, Installation])
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1000))
    clock_ahead_s: float = 0.0
    index_lag_s: float = 0.0
    """How old an issue or a repository must be before a search finds it."""
    template_delay_s: float = 0.0
    """How long a repository from a template is empty."""
    tree_limit: int = 100_000
    """Entries of a recursive tree; more are cut."""

    def now(self) -> float:
        """Unix seconds on the fake's clock."""
        return time.time() + self.clock_ahead_s

    def add_account(self, login: str, *, is_organization: bool = False, members: Iterable[str] = ()) -> Account:
        """An account, new or as it is."""
        found = self.accounts.get(login.lower())
        if found is None:
            found = Account(login=login, id=next(self.ids), is_organization=is_organization)
            self.accounts[login.lower()] = found
        found.members.update(members)
        return found

    def add_token(self, token: str, login: str, scopes: Iterable[str] = ALL_SCOPES) -> None:
        """Let this token speak for the account."""
        self.add_account(login)
        self.tokens[token] = Viewer(login=login, scopes=frozenset(scopes))

    def add_repository(self, owner: str, name: str, *, private: bool = False) -> Repository:
        """An empty repository."""
        now = self.now()
        made = Repository(
            id=next(self.ids),
            owner=self.add_account(owner).login,
            name=name,
            private=private,
            created_at=now,
            updated_at=now,
            pushed_at=now,
        )
        self.repositories[made.id] = made
        self.moved.pop(made.full_name.lower(), None)
        return made

    def find(self, full_name: str) -> Repository | None:
        """The repository that has this name now."""
        wanted = full_name.lower()
        found = next((each for each in self.repositories.values() if each.full_name.lower() == wanted), None)
        if found is not None:
            self.let_arrive(found)
        return found

    def let_arrive(self, repository: Repository) -> None:
        """Give a repository from a template its files when their time has come."""
        if repository.arriving is not None and repository.arriving[0] <= self.now():
            repository.git, repository.arriving = repository.arriving[1], None

    def rename(self, repository: Repository, full_name: str) -> None:
        """Give it another name; the old one leads to it."""
        self.moved[repository.full_name.lower()] = repository.id
        owner, _, repository.name = full_name.partition("/")
        repository.owner = self.add_account(owner).login

    def commit(
        self,
        repository: Repository,
        changes: Mapping[str, Entry | bytes | None],
        *,
        message: str,
        by: str,
        branch: str | None = None,
    ) -> str:
        """Put changes (None removes) on top of a branch, which is made when the repository is empty."""
        git, ref = repository.git, f"refs/heads/{branch or repository.default_branch}"
        parent = git.refs.get(ref)
        files = git.files(git.commits[parent].tree) if parent else {}
        for path, change in changes.items():
            if change is None:
                files.pop(path, None)
            else:
                content = change if isinstance(change, Entry) else Entry(mode=FILE, sha=git.add_blob(change))
                files[path] = content
        sha = git.add_commit(
            Commit(
                tree=git.add_tree(files),
                parents=(parent,) if parent else (),
                message=message,
                author=self.signature(by),
                committer=self.signature(by),
                login=by,
            )
        )
        git.refs[ref] = sha
        repository.pushed_at = repository.updated_at = self.now()
        return sha

    def signature(self, login: str) -> Signature:
        """The account's name under a commit of now."""
        account = self.add_account(login)
        email = account.email or f"{account.login}@users.noreply.example.com"
        return Signature(name=account.name or account.login, email=email, at=self.now())

    def may_read(self, viewer: Viewer, repository: Repository) -> bool:
        """Whether the repository exists for the viewer."""
        if not repository.private:
            return True
        if viewer.installation is not None:
            return self._is_installed(viewer.installation, repository)
        return "repo" in viewer.scopes and self._belongs(viewer.login, repository)

    def may_write(self, viewer: Viewer, repository: Repository) -> bool:
        """Whether the viewer may push to it and edit what others wrote in it."""
        if viewer.installation is not None:
            return self._is_installed(viewer.installation, repository)
        wanted = {"repo"} if repository.private else {"repo", "public_repo"}
        return not wanted.isdisjoint(viewer.scopes) and self._belongs(viewer.login, repository)

    def issue_token(self, installation: Installation) -> tuple[str, float]:
        """A new token of an installation, and when it ends."""
        token = f"ghs_{secrets.token_hex(18)}"
        expires_at = self.now() + 3600
        self.tokens[token] = Viewer(installation=installation, expires_at=expires_at)
        return token, expires_at

    def _belongs(self, login: str | None, repository: Repository) -> bool:
        if login is None:
            return False
        owner = self.accounts[repository.owner.lower()]
        return login == owner.login or login in owner.members or login in repository.collaborators

    def _is_installed(self, installation: Installation, repository: Repository) -> bool:
        chosen = installation.repositories is None or repository.id in installation.repositories
        return installation.account.lower() == repository.owner.lower() and chosen

"""Git's objects in memory, with the hashes that git gives them: blobs, trees, commits, refs, and merging."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

FILE, EXECUTABLE, SYMLINK, SUBMODULE, FOLDER = "100644", "100755", "120000", "160000", "040000"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a tree holds under one name; `sha` is a blob's, a tree's, or (submodule) another repository's commit."""

    mode: str
    sha: str

    @property
    def kind(self) -> str:
        """As the tree API calls it."""
        return {FOLDER: "tree", SUBMODULE: "commit"}.get(self.mode, "blob")


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Who and when."""

    name: str
    email: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit; its hash is the key it is stored under."""

    tree: str
    parents: tuple[str, ...]
    message: str
    author: Signature
    committer: Signature
    login: str
    """Account whose commit it is."""


Files = dict[str, Entry]
"""Path -> entry of everything in a tree but its folders."""


@dataclass(kw_only=True)
class Git:
    """The objects and refs of one repository."""

    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    trees: dict[str, dict[str, Entry]] = field(default_factory=dict[str, dict[str, Entry]])
    commits: dict[str, Commit] = field(default_factory=dict[str, Commit])
    refs: dict[str, str] = field(default_factory=dict[str, str])
    """`refs/heads/main` -> commit."""

    def copy(self) -> "Git":
        """The same history, to go on by itself."""
        return Git(blobs=dict(self.blobs), trees=dict(self.trees), commits=dict(self.commits), refs=dict(self.refs))

    def add_blob(self, content: bytes) -> str:
        """Store a file's content."""
        sha = _hash("blob", content)
        self.blobs[sha] = content
        return sha

    def add_tree(self, files: Mapping[str, Entry]) -> str:
        """Store the tree of these paths, with all folders in it."""
        here: dict[str, Entry] = {}
        below: dict[str, Files] = {}
        for path, entry in files.items():
            name, slash, rest = path.partition("/")
            if slash:
                below.setdefault(name, {})[rest] = entry
            else:
                here[name] = entry
        for name, inner in below.items():
            here[name] = Entry(mode=FOLDER, sha=self.add_tree(inner))
        ordered = sorted(here.items(), key=lambda item: f"{item[0]}/" if item[1].mode == FOLDER else item[0])
        raw = b"".join(
            f"{entry.mode.lstrip('0')} {name}".encode() + b"\0" + bytes.fromhex(entry.sha) for name, entry in ordered
        )
        sha = _hash("tree", raw)
        self.trees[sha] = dict(ordered)
        return sha

    def add_commit(self, commit: Commit) -> str:
        """Store a commit."""
        parents = "".join(f"parent {sha}\n" for sha in commit.parents)
        signatures = "".join(
            f"{role} {who.name} <{who.email}> {int(who.at)} +0000\n"
            for role, who in (("author", commit.author), ("committer", commit.committer))
        )
        sha = _hash("commit", f"tree {commit.tree}\n{parents}{signatures}\n{commit.message}".encode())
        self.commits[sha] = commit
        return sha

    def files(self, tree: str) -> Files:
        """Everything in a tree, folders left out."""
        return {path: entry for path, entry in self.walk(tree) if entry.mode != FOLDER}

    def walk(self, tree: str, prefix: str = "") -> Iterator[tuple[str, Entry]]:
        """Everything in a tree, each folder before what is in it."""
        for name, entry in self.trees[tree].items():
            yield prefix + name, entry
            if entry.mode == FOLDER:
                yield from self.walk(entry.sha, f"{prefix}{name}/")

    def find(self, commit: str, path: str) -> Entry | None:
        """What lies at a path in a commit; the empty path is its top folder."""
        entry = Entry(mode=FOLDER, sha=self.commits[commit].tree)
        for part in path.split("/") if path else ():
            inner = self.trees.get(entry.sha, {}) if entry.mode == FOLDER else {}
            if part not in inner:
                return None
            entry = inner[part]
        return entry

    def resolve(self, name: str) -> str | None:
        """The commit that a branch, tag, ref or (short) hash means."""
        for ref in (f"refs/heads/{name}", f"refs/tags/{name}", f"refs/{name}", name):
            if ref in self.refs:
                return self.refs[ref]
        if len(name) >= 7:
            found = [sha for sha in self.commits if sha.startswith(name)]
            if len(found) == 1:
                return found[0]
        return None

    def history(self, commit: str) -> list[str]:
        """The commit and all before it, newest first."""
        seen: set[str] = set()
        waiting, found = [commit], list[str]()
        while waiting:
            waiting.sort(key=lambda sha: self.commits[sha].committer.at)
            sha = waiting.pop()
            if sha in seen:
                continue
            seen.add(sha)
            found.append(sha)
            waiting.extend(self.commits[sha].parents)
        return found

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `new` contains `old`."""
        return old in self.history(new)

    def changes(self, commit: str) -> dict[str, tuple[Entry | None, Entry | None]]:
        """Path -> (before, after) against the first parent."""
        parents = self.commits[commit].parents
        before = self.files(self.commits[parents[0]].tree) if parents else {}
        return difference(before, self.files(self.commits[commit].tree))

    def merged(self, base: str, head: str) -> Files | None:
        """The files of both branches together; None when both changed one path in different ways."""
        ancestors = set(self.history(base))
        common = next((sha for sha in self.history(head) if sha in ancestors), None)
        origin = self.files(self.commits[common].tree) if common else {}
        ours, theirs = self.files(self.commits[base].tree), self.files(self.commits[head].tree)
        result = dict(ours)
        for path, (_, new) in difference(origin, theirs).items():
            if ours.get(path) not in (origin.get(path), new):
                return None
            if new is None:
                result.pop(path, None)
            else:
                result[path] = new
        return result


def difference(before: Files, after: Files) -> dict[str, tuple[Entry | None, Entry | None]]:
    """Path -> (before, after) of what is not the same in both."""
    return {
        path: (before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    }


def stamp(at: float) -> str:
    """The moment as GitHub writes it."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> float:
    """The other way round; also for a day alone.

    Raises:
        ValueError: it is neither.
    """
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _hash(kind: str, raw: bytes) -> str:
    return hashlib.sha1(b"%s %d\0%s" % (kind.encode(), len(raw), raw), usedforsecurity=False).hexdigest()

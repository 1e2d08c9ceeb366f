"""The fake's answers about files: contents, trees and blobs."""

import base64
import binascii
import posixpath
from typing import Any
from urllib.parse import quote

from tests.servers.github_commit_bodies import git_commit
from tests.servers.github_git import FILE, FOLDER, SUBMODULE, SYMLINK, Entry
from tests.servers.github_routes import Answer, Context, Json, Refused, answers
from tests.servers.github_world import Repository

_LARGEST_INLINE_BYTES = 1_000_000
_LARGEST_BYTES = 100_000_000
_LONGEST_FOLDER = 1000
_KINDS = {FOLDER: "dir", SUBMODULE: "submodule", SYMLINK: "symlink"}


@answers("GET /repos/{owner}/{repo}/contents/{path}")
def get_contents(context: Context) -> Answer:
    found = context.repository()
    if not found.git.refs:
        raise Refused(404, "This repository is empty.")
    ref = context.query.get("ref") or found.default_branch
    commit = found.resolve(ref)
    if commit is None:
        raise Refused(404, f"No commit found for the ref {ref}")
    path = context.places["path"].strip("/")
    entry = found.git.find(commit, path)
    if entry is None:
        raise Refused(404, "Not Found")
    if entry.mode == SYMLINK:
        target = _target(found, path, entry)
        led_to = found.git.find(commit, target) if target is not None else None
        if led_to is not None and led_to.kind == "blob" and led_to.mode != SYMLINK:
            entry = led_to  # GitHub follows a link to a file of the same repository
    if entry.mode == FOLDER:
        return _folder(context, found, path, entry, ref)
    if entry.mode not in (SUBMODULE, SYMLINK):
        size = len(found.git.blobs[entry.sha])
        if size > _LARGEST_BYTES:
            raise Refused(403, "This API returns blobs up to 100 MB in size.")
        if ".raw" in context.accept:
            return Answer(raw=found.git.blobs[entry.sha], content_type="application/vnd.github.raw+json; charset=utf-8")
    at = found.git.commits[commit].committer.at
    return Answer(body=_whole(context, found, path, entry, ref), modified_at=at)


def _folder(context: Context, found: Repository, path: str, entry: Entry, ref: str) -> Answer:
    prefix = f"{path}/" if path else ""
    names = list(found.git.trees[entry.sha].items())[:_LONGEST_FOLDER]
    entries = [_short(context, found, prefix + name, inner, ref) for name, inner in names]
    for item in entries:
        if item["type"] == "submodule":
            item["type"] = "file"  # GitHub does so for the sake of old clients
    if ".object" in context.accept:
        body = _short(context, found, path, entry, ref) | {"entries": entries}
        return Answer(body=body, content_type="application/vnd.github.object+json; charset=utf-8")
    return Answer(body=entries)


def _short(context: Context, found: Repository, path: str, entry: Entry, ref: str) -> Json:
    api, web = f"{context.api}/repos/{found.full_name}", f"{context.web}/{found.full_name}"
    kind = _KINDS.get(entry.mode, "file")
    place = quote(path)
    url = f"{api}/contents/{place}?ref={quote(ref, safe='')}"
    git_url = f"{api}/git/{'trees' if kind == 'dir' else 'blobs'}/{entry.sha}"
    html_url = f"{web}/{'tree' if kind == 'dir' else 'blob'}/{quote(ref)}/{place}"
    download = None if kind in ("dir", "submodule") else f"{context.web}/raw/{found.full_name}/{quote(ref)}/{place}"
    return {
        "name": posixpath.basename(path),
        "path": path,
        "sha": entry.sha,
        "size": len(found.git.blobs.get(entry.sha, b"")),
        "url": url,
        "html_url": html_url,
        "git_url": git_url,
        "download_url": download,
        "type": kind,
        "_links": {"self": url, "git": git_url, "html": html_url},
    }


def _whole(context: Context, found: Repository, path: str, entry: Entry, ref: str) -> Json:
    body = _short(context, found, path, entry, ref)
    if entry.mode == SUBMODULE:
        return body | {"submodule_git_url": f"{context.web}/elsewhere/module.git"}
    content = found.git.blobs[entry.sha]
    if entry.mode == SYMLINK:
        return body | {"target": content.decode()}
    if len(content) > _LARGEST_INLINE_BYTES:
        return body | {"encoding": "none", "content": ""}
    return body | {"encoding": "base64", "content": _base64(content)}


def _base64(content: bytes) -> str:
    """In lines of 60, as Ruby does it."""
    text = base64.b64encode(content).decode()
    return "".join(f"{text[start : start + 60]}\n" for start in range(0, len(text), 60))


def _target(found: Repository, path: str, entry: Entry) -> str | None:
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.git.blobs[entry.sha].decode()))
    return None if joined.startswith(("..", "/")) else joined


@answers("PUT /repos/{owner}/{repo}/contents/{path}")
def put_contents(context: Context) -> Answer:
    found = context.repository(write=True)
    body, path = context.body, context.places["path"].strip("/")
    branch, before = _before(found, body, path)
    if before is not None and "sha" not in body:
        raise Refused(422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
    if "sha" in body and (before is None or body["sha"] != before.sha):
        raise Refused(409, f"{path} does not match {body['sha']}")
    if before is not None and before.mode == FOLDER:
        raise Refused(422, f"{path} is a directory")
    try:
        content = base64.b64decode(body["content"].replace("\n", ""), validate=True)
    except binascii.Error as error:
        raise Refused(422, "content is not valid Base64") from error
    new = Entry(mode=before.mode if before else FILE, sha=found.git.add_blob(content))
    commit = context.world.commit(found, {path: new}, message=body["message"], by=context.actor(), branch=branch)
    shown = _short(context, found, path, new, branch)
    status = 201 if before is None else 200
    return Answer(status=status, body={"content": shown, "commit": git_commit(context, found, commit)})


@answers("DELETE /repos/{owner}/{repo}/contents/{path}")
def delete_contents(context: Context) -> Answer:
    found = context.repository(write=True)
    body, path = context.body, context.places["path"].strip("/")
    branch, before = _before(found, body, path)
    if before is None:
        raise Refused(404, "Not Found")
    if body["sha"] != before.sha:
        raise Refused(409, f"{path} does not match {body['sha']}")
    commit = context.world.commit(found, {path: None}, message=body["message"], by=context.actor(), branch=branch)
    return Answer(body={"content": None, "commit": git_commit(context, found, commit)})


def _before(found: Repository, body: Json, path: str) -> tuple[str, Entry | None]:
    if not path or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise Refused(422, "path contains a malformed path component")
    branch = body.get("branch") or found.default_branch
    head = found.git.refs.get(f"refs/heads/{branch}")
    if head is None:
        if found.git.refs or branch != found.default_branch:
            raise Refused(404, f"Branch {branch} not found")
        return branch, None
    return branch, found.git.find(head, path)


@answers("POST /repos/{owner}/{repo}/git/blobs")
def create_blob(context: Context) -> Answer:
    found = context.repository(write=True, empty=False)
    content = context.body["content"]
    if context.body.get("encoding", "utf-8") == "base64":
        try:
            raw = base64.b64decode(content)
        except binascii.Error as error:
            raise Refused(422, "content is not valid Base64") from error
    else:
        raw = content.encode()
    sha = found.git.add_blob(raw)
    url = f"{context.api}/repos/{found.full_name}/git/blobs/{sha}"
    return Answer(status=201, body={"sha": sha, "url": url}, headers={"Location": url})


@answers("GET /repos/{owner}/{repo}/git/blobs/{file_sha}")
def get_blob(context: Context) -> Answer:
    found = context.repository(empty=False)
    sha = context.places["file_sha"]
    if sha not in found.git.blobs:
        raise Refused(404, "Not Found")
    content = found.git.blobs[sha]
    if ".raw" in context.accept:
        return Answer(raw=content, content_type="application/vnd.github.raw+json; charset=utf-8")
    return Answer(
        body={
            "sha": sha,
            "node_id": f"B_{sha[:16]}",
            "size": len(content),
            "url": f"{context.api}/repos/{found.full_name}/git/blobs/{sha}",
            "content": _base64(content),
            "encoding": "base64",
        }
    )


@answers("GET /repos/{owner}/{repo}/git/trees/{tree_sha}")
def get_tree(context: Context) -> Answer:
    found = context.repository(empty=False)
    name = context.places["tree_sha"]
    commit = found.resolve(name)
    tree = found.git.commits[commit].tree if commit is not None else name
    if tree not in found.git.trees:
        raise Refused(404, "Not Found")
    # To GitHub any value of `recursive` means yes, "0" and "false" too.
    everything = found.git.walk(tree) if "recursive" in context.query else iter(found.git.trees[tree].items())
    entries = list(everything)
    limit = context.world.tree_limit
    body = _tree(context, found, tree, entries[:limit])
    return Answer(body=body | {"truncated": len(entries) > limit})


@answers("POST /repos/{owner}/{repo}/git/trees")
def create_tree(context: Context) -> Answer:
    found = context.repository(write=True, empty=False)
    git, body = found.git, context.body
    files = {}
    if body.get("base_tree"):
        commit = git.commits.get(body["base_tree"])
        base = commit.tree if commit is not None else body["base_tree"]
        if base not in git.trees:
            raise Refused(422, "base_tree is not a valid tree oid")
        files = git.files(base)
    for number, item in enumerate(body["tree"]):
        _put(found, files, item, number)
    sha = git.add_tree(files)
    return Answer(status=201, body=_tree(context, found, sha, list(git.trees[sha].items())) | {"truncated": False})


def _put(found: Repository, files: dict[str, Entry], item: Json, number: int) -> None:
    git, path = found.git, item.get("path", "")
    if not path or path.startswith("/") or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise Refused(422, f"tree.path contains a malformed path component at {number}")
    for old in [each for each in files if each == path or each.startswith(f"{path}/")]:
        del files[old]
    if "content" in item:
        files[path] = Entry(mode=item.get("mode", FILE), sha=git.add_blob(item["content"].encode()))
    elif item.get("sha") is None:
        return
    elif item["sha"] in git.trees:
        files.update({f"{path}/{inner}": entry for inner, entry in git.files(item["sha"]).items()})
    elif item["sha"] in git.blobs or item.get("mode") == SUBMODULE:
        files[path] = Entry(mode=item.get("mode", FILE), sha=item["sha"])
    else:
        raise Refused(422, f"tree.sha {item['sha']} is not a valid blob")


def _tree(context: Context, found: Repository, sha: str, entries: list[tuple[str, Entry]]) -> Json:
    api = f"{context.api}/repos/{found.full_name}/git"
    items: list[Json] = []
    for path, entry in entries:
        item: dict[str, Any] = {"path": path, "mode": entry.mode, "type": entry.kind, "sha": entry.sha}
        if entry.kind == "blob":
            item["size"] = len(found.git.blobs[entry.sha])
        if entry.kind != "commit":
            item["url"] = f"{api}/{entry.kind}s/{entry.sha}"
        items.append(item)
    return {"sha": sha, "url": f"{api}/trees/{sha}", "tree": items}

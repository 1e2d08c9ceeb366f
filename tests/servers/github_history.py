"""The fake's answers about history: branches, commits, refs."""

import difflib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from tests.servers.github_commit_bodies import commit as commit_body
from tests.servers.github_commit_bodies import git_commit, reference
from tests.servers.github_git import Commit, Entry, Signature, moment
from tests.servers.github_routes import Answer, Context, Json, Refused, answers
from tests.servers.github_world import Repository

_HEADS = "refs/heads/"


@answers("GET /repos/{owner}/{repo}/branches")
def list_branches(context: Context) -> Answer:
    found = context.repository()
    names = sorted(ref.removeprefix(_HEADS) for ref in found.git.refs if ref.startswith(_HEADS))
    if "protected" in context.query:
        names = [name for name in names if (name in found.protected) == context.flag("protected")]
    page, headers = context.page(names, repository=found)
    api = f"{context.api}/repos/{found.full_name}"
    body = [
        {
            "name": name,
            "commit": {
                "sha": found.git.refs[_HEADS + name],
                "url": f"{api}/commits/{found.git.refs[_HEADS + name]}",
            },
            "protected": name in found.protected,
        }
        for name in page
    ]
    return Answer(body=body, headers=headers)


@answers("GET /repos/{owner}/{repo}/branches/{branch}")
def get_branch(context: Context) -> Answer:
    found = context.repository()
    name = context.places["branch"]
    sha = found.git.refs.get(_HEADS + name)
    if sha is None:
        raise Refused(404, "Branch not found")
    here = f"{context.api}/repos/{found.full_name}/branches/{quote(name, safe='')}"
    body: Json = {
        "name": name,
        "commit": commit_body(context, found, sha),
        "_links": {"self": here, "html": f"{context.web}/{found.full_name}/tree/{quote(name)}"},
        "protected": name in found.protected,
        "protection": {
            "enabled": name in found.protected,
            "required_status_checks": {"enforcement_level": "off", "contexts": [], "checks": []},
        },
        "protection_url": f"{here}/protection",
    }
    return Answer(body=body)


@answers("GET /repos/{owner}/{repo}/commits")
def list_commits(context: Context) -> Answer:
    found = context.repository(empty=False)
    git, query = found.git, context.query
    start = found.resolve(query.get("sha") or found.default_branch)
    if start is None:
        raise Refused(404, "Not Found")
    shas = git.history(start)
    if "author" in query:
        wanted = query["author"].lower()
        shas = [sha for sha in shas if wanted in (git.commits[sha].login.lower(), git.commits[sha].author.email)]
    try:
        if "since" in query:
            shas = [sha for sha in shas if git.commits[sha].committer.at >= moment(query["since"])]
        if "until" in query:
            shas = [sha for sha in shas if git.commits[sha].committer.at <= moment(query["until"])]
    except ValueError as error:
        raise Refused(422, "since and until must be timestamps") from error
    if query.get("path"):
        path = query["path"]
        shas = [sha for sha in shas if any(f"{name}/".startswith(f"{path}/") for name in git.changes(sha))]
    page, headers = context.page(shas, repository=found)
    return Answer(body=[commit_body(context, found, sha) for sha in page], headers=headers)


@answers("GET /repos/{owner}/{repo}/commits/{ref}")
def get_commit(context: Context) -> Answer:
    found = context.repository(empty=False)
    name = context.places["ref"]
    sha = found.resolve(name)
    if sha is None:
        raise Refused(422, f"No commit found for SHA: {name}")
    if ".sha" in context.accept:
        return Answer(raw=sha.encode(), content_type="application/vnd.github.sha; charset=utf-8")
    files = [_changed(context, found, sha, path, *sides) for path, sides in found.git.changes(sha).items()]
    added, removed = sum(each["additions"] for each in files), sum(each["deletions"] for each in files)
    body = commit_body(context, found, sha)
    page, headers = context.page(files)
    body |= {"stats": {"additions": added, "deletions": removed, "total": added + removed}, "files": list(page)}
    return Answer(body=body, headers=headers, modified_at=found.git.commits[sha].committer.at)


def _changed(
    context: Context, found: Repository, sha: str, path: str, before: Entry | None, after: Entry | None
) -> Json:
    patch = list(difflib.unified_diff(_lines(found, before), _lines(found, after), lineterm="", n=3))[2:]
    added = sum(line.startswith("+") for line in patch)
    removed = sum(line.startswith("-") for line in patch)
    shown = after or before
    place = f"{found.full_name}/blob/{sha}/{quote(path)}"
    body: dict[str, Any] = {
        "sha": None if shown is None else shown.sha,
        "filename": path,
        "status": "added" if before is None else "removed" if after is None else "modified",
        "additions": added,
        "deletions": removed,
        "changes": added + removed,
        "blob_url": f"{context.web}/{place}",
        "raw_url": f"{context.web}/{place.replace('/blob/', '/raw/')}",
        "contents_url": f"{context.api}/repos/{found.full_name}/contents/{quote(path)}?ref={sha}",
    }
    if patch:
        body["patch"] = "\n".join(patch)
    return body


def _lines(found: Repository, entry: Entry | None) -> Sequence[str]:
    content = found.git.blobs.get(entry.sha, b"") if entry is not None else b""
    return [] if b"\0" in content else content.decode(errors="replace").splitlines()


@answers("POST /repos/{owner}/{repo}/git/commits")
def create_commit(context: Context) -> Answer:
    found = context.repository(write=True, empty=False)
    git, body = found.git, context.body
    if body["tree"] not in git.trees:
        raise Refused(422, "Tree SHA does not exist")
    parents = tuple(body.get("parents", ()))
    if any(parent not in git.commits for parent in parents):
        raise Refused(422, "Parent SHA does not exist or is not a commit object")
    login = context.actor()
    author = _signature(context, body.get("author"), login)
    sha = git.add_commit(
        Commit(
            tree=body["tree"],
            parents=parents,
            message=body["message"],
            author=author,
            committer=_signature(context, body.get("committer") or body.get("author"), login),
            login=login,
        )
    )
    shown = git_commit(context, found, sha)
    return Answer(status=201, body=shown, headers={"Location": shown["url"]})


def _signature(context: Context, given: Json | None, login: str) -> Signature:
    if given is None:
        return context.world.signature(login)
    at = moment(given["date"]) if "date" in given else context.world.now()
    return Signature(name=given["name"], email=given["email"], at=at)


@answers("GET /repos/{owner}/{repo}/git/commits/{commit_sha}")
def get_git_commit(context: Context) -> Answer:
    found = context.repository(empty=False)
    sha = context.places["commit_sha"]
    if sha not in found.git.commits:
        raise Refused(404, "Not Found")
    return Answer(body=git_commit(context, found, sha))


@answers("GET /repos/{owner}/{repo}/git/ref/{ref}")
def get_ref(context: Context) -> Answer:
    found = context.repository(empty=False)
    ref = f"refs/{context.places['ref']}"
    if ref not in found.git.refs:
        raise Refused(404, "Not Found")
    return Answer(body=reference(context, found, ref))


@answers("GET /repos/{owner}/{repo}/git/matching-refs/{ref}")
def list_matching_refs(context: Context) -> Answer:
    found = context.repository()
    prefix = f"refs/{context.places['ref']}"
    refs = sorted(ref for ref in found.git.refs if ref.startswith(prefix))
    return Answer(body=[reference(context, found, ref) for ref in refs])


@answers("POST /repos/{owner}/{repo}/git/refs")
def create_ref(context: Context) -> Answer:
    found = context.repository(write=True, empty=False)
    ref, sha = context.body["ref"], context.body["sha"]
    if not ref.startswith("refs/") or ref.count("/") < 2:
        raise Refused(422, "Reference name must start with 'refs/' and have at least two slashes.")
    if any(part in ("", ".", "..") or part.startswith("-") for part in ref.split("/")) or " " in ref:
        raise Refused(422, f"{ref} is not a valid ref name.")
    if ref in found.git.refs:
        raise Refused(422, "Reference already exists")
    if sha not in found.git.commits:
        raise Refused(422, "Object does not exist")
    found.git.refs[ref] = sha
    found.pushed_at = context.world.now()
    shown = reference(context, found, ref)
    return Answer(status=201, body=shown, headers={"Location": shown["url"]})


@answers("PATCH /repos/{owner}/{repo}/git/refs/{ref}")
def update_ref(context: Context) -> Answer:
    found = context.repository(write=True, empty=False)
    ref, sha = f"refs/{context.places['ref']}", context.body["sha"]
    if ref not in found.git.refs:
        raise Refused(422, "Reference does not exist")
    if sha not in found.git.commits:
        raise Refused(422, "Object does not exist")
    if not context.body.get("force") and not found.git.is_ancestor(found.git.refs[ref], sha):
        raise Refused(422, "Update is not a fast forward")
    found.git.refs[ref] = sha
    found.pushed_at = context.world.now()
    return Answer(body=reference(context, found, ref))


@answers("DELETE /repos/{owner}/{repo}/git/refs/{ref}")
def delete_ref(context: Context) -> Answer:
    found = context.repository(write=True, empty=False)
    ref = f"refs/{context.places['ref']}"
    if ref not in found.git.refs:
        raise Refused(422, "Reference does not exist")
    if ref == _HEADS + found.default_branch:
        raise Refused(422, "Cannot delete the default branch")
    del found.git.refs[ref]
    return Answer(status=204)

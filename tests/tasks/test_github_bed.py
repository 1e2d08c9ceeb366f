"""The fake GitHub is itself what GitHub is: its answers, who may see what, files, issues, pull requests."""

import base64
import hashlib
import time
from collections.abc import Generator
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from github import Auth, Github

from tests.servers.github import ALICE_TOKEN, BOB_TOKEN, FakeGithub
from tests.servers.github_asking import Api
from tests.servers.github_git import SUBMODULE, SYMLINK, Entry
from tests.servers.github_routes import known_operations
from tests.servers.github_spec import SLICE, operations, response_faults

DEMO = "/repos/alice/demo"
PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def api(fake_github: FakeGithub) -> Generator[Api, None, None]:
    with Api(fake_github, ALICE_TOKEN) as asked:
        yield asked


@pytest.fixture
def bob(fake_github: FakeGithub) -> Generator[Api, None, None]:
    with Api(fake_github, BOB_TOKEN) as asked:
        yield asked


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


# -- what GitHub describes -----------------------------------------------------------------------------------------


def test_every_operation_of_the_slice_is_answered() -> None:
    assert known_operations() == set(operations())
    assert SLICE.stat().st_size < 150_000


def test_an_answer_that_github_would_not_give_is_found() -> None:
    found = response_faults("GET /repos/{owner}/{repo}/issues/{issue_number}", 200, {"number": "one"})

    assert any("/number" in each for each in found)
    assert any('"title" is a required property' in each for each in found)
    assert response_faults("GET /user", 418, {}) == ["GET /user never answers 418"]


def test_leaving_the_fake_fails_when_it_answered_wrongly() -> None:
    with FakeGithub() as github:
        github.account("alice", followers="many")
        github.token("alice", token=ALICE_TOKEN)
        with Api(github, ALICE_TOKEN) as asked:
            asked("GET", "/user")

        with pytest.raises(AssertionError, match="the fake answered what GitHub would not"):
            github.check()

        github.engine.violations.clear()


@pytest.mark.parametrize(
    "path",
    [
        *("/user", "/users/bob", "/orgs/acme", "/rate_limit", "/user/repos", "/users/alice/repos", "/orgs/acme/repos"),
        *(DEMO, f"{DEMO}/contents/", f"{DEMO}/contents/README.md", f"{DEMO}/branches", f"{DEMO}/branches/main"),
        *(
            f"{DEMO}/commits",
            f"{DEMO}/commits/main",
            f"{DEMO}/git/trees/HEAD?recursive=1",
            f"{DEMO}/git/ref/heads/main",
        ),
        *(f"{DEMO}/git/matching-refs/heads", f"{DEMO}/issues", f"{DEMO}/issues/1", f"{DEMO}/issues/1/comments"),
        *(f"{DEMO}/pulls?state=all", f"{DEMO}/pulls/2", "/search/code?q=print", "/search/issues?q=login"),
        *("/search/repositories?q=demo", "/search/users?q=alice", "/api/v3/user"),
    ],
)
def test_each_read_is_as_described(fake_github: FakeGithub, api: Api, path: str) -> None:
    fake_github.push("alice/demo", {"new.py": "1\n"}, branch="feature")
    fake_github.pull("alice/demo", "A feature", head="feature")
    fake_github.comment("alice/demo", 1, "Me too", author="bob")

    answer = api("GET", path)

    assert answer.status_code == 200, answer.text
    assert fake_github.engine.violations == []


def test_pygithub_needs_nothing_but_the_base_url(fake_github: FakeGithub) -> None:
    client = Github(auth=Auth.Token(ALICE_TOKEN), base_url=fake_github.url, retry=None, seconds_between_writes=0)

    repository = client.get_repo("alice/demo")
    made = repository.create_issue("From PyGithub", labels=["bug"])
    made.edit(state="closed")

    assert [each.title for each in repository.get_issues(state="all")] == ["From PyGithub", "Login fails"]
    assert repository.get_contents("README.md").decoded_content == b"# Demo\n"  # type: ignore[union-attr]
    client.close()


# -- who may see what ----------------------------------------------------------------------------------------------


def test_private_repositories_of_others_do_not_exist(api: Api, bob: Api) -> None:
    assert api("GET", "/repos/bob/secret").status_code == 404
    assert bob("GET", "/repos/bob/secret").status_code == 200
    assert bob("GET", "/repos/acme/weather/contents/README.md").status_code == 404
    assert bob("PUT", f"{DEMO}/contents/x", json={"message": "m", "content": ""}).status_code == 404
    assert bob("PATCH", f"{DEMO}/issues/1", json={"state": "closed"}).status_code == 200  # it is his own
    assert bob("POST", "/orgs/acme/repos", json={"name": "x"}).status_code == 403


def test_scopes_limit_a_token(fake_github: FakeGithub) -> None:
    fake_github.token("alice", token="ghp_public", scopes={"public_repo"})
    fake_github.token("alice", token="ghp_nothing", scopes=())
    public, nothing = Api(fake_github, "ghp_public"), Api(fake_github, "ghp_nothing")

    assert public("GET", "/repos/acme/weather").status_code == 404
    assert public("POST", f"{DEMO}/issues", json={"title": "x"}).status_code == 201
    assert nothing("POST", f"{DEMO}/issues", json={"title": "x"}).status_code == 404
    assert public("GET", "/user").headers["X-OAuth-Scopes"] == "public_repo"
    for each in (public, nothing):
        each.session.close()


def test_bad_credentials_and_nobody_are_told_apart(fake_github: FakeGithub) -> None:
    bad, nobody = Api(fake_github, "ghp_wrong"), Api(fake_github, None)

    assert bad("GET", DEMO).json()["message"] == "Bad credentials"
    assert nobody("GET", DEMO).headers["X-RateLimit-Limit"] == "60"
    assert nobody("GET", "/user").status_code == 401
    assert nobody("GET", "/search/code?q=x").status_code == 401
    for each in (bad, nobody):
        each.session.close()


def _app_token(*, lasts_s: float = 300, key: rsa.RSAPrivateKey = PRIVATE_KEY) -> str:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    now = int(time.time())
    return jwt.encode({"iss": "77", "iat": now - 30, "exp": int(now + lasts_s)}, pem, algorithm="RS256")


@pytest.fixture
def app(fake_github: FakeGithub) -> FakeGithub:
    public = PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    fake_github.app(77, public.decode())
    fake_github.installation(5, app=77, account="acme")
    return fake_github


def test_an_app_gets_a_token_for_its_installation_that_ends(app: FakeGithub) -> None:
    minting = Api(app, _app_token())

    answer = minting("POST", "/app/installations/5/access_tokens", json={})

    assert answer.status_code == 201, answer.text
    installed = Api(app, answer.json()["token"])
    assert installed("GET", "/repos/acme/weather").status_code == 200
    assert installed("GET", "/repos/bob/secret").status_code == 404
    assert installed("GET", "/user").status_code == 403
    made = installed("POST", "/repos/acme/weather/issues", json={"title": "By an app"}).json()
    assert made["user"]["type"] == "Bot"
    app.advance(3601)
    assert installed("GET", "/repos/acme/weather").status_code == 401
    minting.session.close()
    installed.session.close()


def test_a_forged_or_overlong_app_token_is_refused(app: FakeGithub) -> None:
    forged = _app_token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))

    for token in (forged, _app_token(lasts_s=3600), _app_token(lasts_s=-10), "a.b.c"):
        asked = Api(app, token)
        assert asked("POST", "/app/installations/5/access_tokens").status_code == 401
        asked.session.close()


# -- files and history ---------------------------------------------------------------------------------------------


def test_hashes_are_gits_own(fake_github: FakeGithub, api: Api) -> None:
    found = api("GET", f"{DEMO}/contents/README.md").json()

    assert found["sha"] == hashlib.sha1(b"blob 7\0# Demo\n", usedforsecurity=False).hexdigest()
    main = api("GET", f"{DEMO}/git/ref/heads/main").json()["object"]["sha"]
    assert fake_github.find("alice/demo").git.refs["refs/heads/main"] == main


def test_a_file_is_swapped_only_when_its_hash_is_right(api: Api) -> None:
    url, body = f"{DEMO}/contents/README.md", {"message": "m", "content": _base64(b"new")}
    sha = api("GET", url).json()["sha"]

    assert api("PUT", url, json=body).status_code == 422
    assert api("PUT", url, json=body | {"sha": "0" * 40}).status_code == 409
    assert api("PUT", url, json=body | {"sha": sha}).status_code == 200
    assert api("PUT", url, json=body | {"sha": sha}).status_code == 409
    assert api("DELETE", url, json={"message": "m", "sha": sha}).status_code == 409
    assert api("PUT", f"{DEMO}/contents/fresh", json=body).status_code == 201
    assert api("PUT", f"{DEMO}/contents/fresh2", json=body | {"branch": "none"}).status_code == 404


def test_content_comes_in_lines_raw_or_not_at_all(fake_github: FakeGithub, api: Api) -> None:
    fake_github.push("alice/demo", {"long": b"x" * 100, "large": b"y" * 1_000_001})
    raw = {"Accept": "application/vnd.github.raw+json"}

    small, large = api("GET", f"{DEMO}/contents/long").json(), api("GET", f"{DEMO}/contents/large").json()

    assert [len(line) for line in small["content"].splitlines()] == [60, 60, 16]
    assert (large["encoding"], large["content"], large["size"]) == ("none", "", 1_000_001)
    assert api("GET", f"{DEMO}/contents/large", headers=raw).content == b"y" * 1_000_001
    folder = api("GET", f"{DEMO}/contents/src", headers={"Accept": "application/vnd.github.object+json"}).json()
    assert (folder["type"], folder["entries"][0]["path"]) == ("dir", "src/app.py")


def test_links_lead_to_files_of_the_repository_only(fake_github: FakeGithub, api: Api) -> None:
    git = fake_github.find("alice/demo").git
    links = {name: Entry(mode=SYMLINK, sha=git.add_blob(target.encode())) for name, target in _LINKS.items()}
    module = {"module": Entry(mode=SUBMODULE, sha="1" * 40)}
    fake_github.push("alice/demo", {**links, **module})

    kinds = {name: api("GET", f"{DEMO}/contents/{name}").json()["type"] for name in (*_LINKS, "module")}

    assert kinds == {"to-file": "file", "to-nothing": "symlink", "outside": "symlink", "module": "submodule"}
    listed = {each["name"]: each["type"] for each in api("GET", f"{DEMO}/contents/").json()}
    assert (listed["to-file"], listed["module"]) == ("symlink", "file")


_LINKS = {"to-file": "src/app.py", "to-nothing": "nowhere", "outside": "../../etc/passwd"}


def test_a_tree_that_is_too_large_is_cut(fake_github: FakeGithub, api: Api) -> None:
    fake_github.world.tree_limit = 3

    tree = api("GET", f"{DEMO}/git/trees/main?recursive=1").json()

    assert (len(tree["tree"]), tree["truncated"]) == (3, True)


def test_one_commit_is_made_of_tree_commit_and_ref(fake_github: FakeGithub, api: Api) -> None:
    main = api("GET", f"{DEMO}/git/ref/heads/main").json()["object"]["sha"]
    files = [{"path": "a/b", "mode": "100644", "type": "blob", "content": "new"}, {"path": "README.md", "sha": None}]

    tree = api("POST", f"{DEMO}/git/trees", json={"base_tree": main, "tree": files}).json()
    commit = {"message": "Both", "tree": tree["sha"], "parents": [main]}
    sha = api("POST", f"{DEMO}/git/commits", json=commit).json()["sha"]
    moved = api("PATCH", f"{DEMO}/git/refs/heads/main", json={"sha": sha})

    assert moved.status_code == 200
    assert fake_github.content("alice/demo", "a/b") == b"new"
    assert fake_github.content("alice/demo", "README.md") is None
    assert api("PATCH", f"{DEMO}/git/refs/heads/main", json={"sha": main}).status_code == 422
    changed = {each["filename"]: each["status"] for each in api("GET", f"{DEMO}/commits/{sha}").json()["files"]}
    assert changed == {"README.md": "removed", "a/b": "added"}


def test_refs_are_made_once_and_of_known_commits(api: Api) -> None:
    main = api("GET", f"{DEMO}/git/ref/heads/main").json()["object"]["sha"]

    answers = [
        api("POST", f"{DEMO}/git/refs", json={"ref": ref, "sha": sha})
        for ref, sha in [("refs/heads/x", main), ("refs/heads/x", main), ("refs/heads/y", "0" * 40), ("heads/z", main)]
    ]

    assert [each.status_code for each in answers] == [201, 422, 422, 422]
    assert answers[1].json()["message"] == "Reference already exists"


def test_an_empty_repository_says_so(api: Api) -> None:
    api("POST", "/user/repos", json={"name": "empty"})

    assert api("GET", "/repos/alice/empty/contents/").status_code == 404
    assert api("GET", "/repos/alice/empty/commits").status_code == 409
    assert api("GET", "/repos/alice/empty/branches").json() == []
    first = api("PUT", "/repos/alice/empty/contents/x", json={"message": "m", "content": _base64(b"1")})
    assert first.status_code == 201
    assert [each["name"] for each in api("GET", "/repos/alice/empty/branches").json()] == ["main"]


# -- repositories --------------------------------------------------------------------------------------------------


def test_a_repository_is_made_once(fake_github: FakeGithub, api: Api) -> None:
    first = api("POST", "/user/repos", json={"name": "my repo", "private": True, "auto_init": True})
    second = api("POST", "/user/repos", json={"name": "my-repo"})

    assert (first.json()["full_name"], first.json()["private"]) == ("alice/my-repo", True)
    assert fake_github.content("alice/my-repo", "README.md") == b"# my-repo\n"
    assert second.status_code == 422
    assert second.json()["errors"][0]["message"] == "name already exists on this account"


def test_a_template_arrives_after_a_while(fake_github: FakeGithub, api: Api) -> None:
    fake_github.world.template_delay_s = 30
    body = {"owner": "acme", "name": "made", "include_all_branches": True, "private": True}

    made = api("POST", "/repos/acme/tmpl/generate", json=body)

    assert made.status_code == 201
    assert made.json()["template_repository"]["full_name"] == "acme/tmpl"
    assert api("GET", "/repos/acme/made/branches").json() == []
    fake_github.advance(31)
    assert [each["name"] for each in api("GET", "/repos/acme/made/branches").json()] == ["extra", "main"]
    assert fake_github.content("acme/made", "extra.txt", "extra") == b"more\n"
    assert api("POST", "/repos/acme/tmpl/generate", json=body).status_code == 422
    assert api("POST", f"{DEMO}/generate", json={"name": "x"}).status_code == 422


def test_a_former_name_leads_to_the_repository(fake_github: FakeGithub, api: Api, bob: Api) -> None:
    fake_github.rename("alice/demo", "alice/renamed")
    fake_github.rename("acme/weather", "acme/climate")

    read, write = api("GET", f"{DEMO}/issues?state=all"), api("PATCH", f"{DEMO}/issues/1", json={"state": "closed"})

    assert (read.status_code, write.status_code) == (301, 307)
    target = urlsplit(read.headers["Location"])
    followed = api("GET", f"{target.path}?{target.query}")
    assert [each["title"] for each in followed.json()] == ["Login fails"]
    assert bob("GET", "/repos/acme/weather").status_code == 404


# -- issues and pull requests --------------------------------------------------------------------------------------


def test_issues_live(api: Api) -> None:
    made = api("POST", f"{DEMO}/issues", json={"title": "New", "body": "b", "labels": ["bug"], "assignees": ["bob"]})
    number = made.json()["number"]

    closed = api("PATCH", f"{DEMO}/issues/{number}", json={"state": "closed", "state_reason": "not_planned"}).json()
    comment = api("POST", f"{DEMO}/issues/{number}/comments", json={"body": "why"}).json()
    edited = api("PATCH", f"{DEMO}/issues/comments/{comment['id']}", json={"body": "because"}).json()

    assert (closed["state"], closed["state_reason"], closed["closed_by"]["login"]) == ("closed", "not_planned", "alice")
    assert edited["body"] == "because"
    assert [each["number"] for each in api("GET", f"{DEMO}/issues?state=closed&labels=bug").json()] == [number]
    untitled = api("POST", f"{DEMO}/issues", json={"body": "no title"})
    assert (untitled.status_code, untitled.json()["message"]) == (422, 'Invalid request.\n\n"title" wasn\'t supplied.')
    assert api("POST", f"{DEMO}/issues", json={"title": " "}).json()["errors"][0]["code"] == "missing_field"
    assert api("POST", f"{DEMO}/issues", json={"title": "x", "body": "y" * 65_537}).status_code == 422
    assert api("DELETE", f"{DEMO}/issues/comments/{comment['id']}").status_code == 204


def test_a_pull_request_is_merged_only_at_the_head_that_was_seen(fake_github: FakeGithub, api: Api) -> None:
    fake_github.push("alice/demo", {"new.py": "1\n"}, branch="feature")
    body = {"title": "Feature", "head": "feature", "base": "main"}

    made, again = api("POST", f"{DEMO}/pulls", json=body), api("POST", f"{DEMO}/pulls", json=body)
    url, seen = f"{DEMO}/pulls/{made.json()['number']}", made.json()["head"]["sha"]
    fake_github.push("alice/demo", {"new.py": "2\n"}, branch="feature")
    late = api("PUT", f"{url}/merge", json={"sha": seen})
    merged = api("PUT", f"{url}/merge", json={"sha": api("GET", url).json()["head"]["sha"]})
    twice = api("PUT", f"{url}/merge", json={})

    assert "already exists" in again.json()["errors"][0]["message"]
    assert [each.status_code for each in (made, again, late, merged, twice)] == [201, 422, 409, 200, 405]
    assert fake_github.content("alice/demo", "new.py") == b"2\n"
    assert api("GET", f"{url}/merge").status_code == 204
    assert api("GET", url).json()["merged_by"]["login"] == "alice"


def test_a_conflict_cannot_be_merged(fake_github: FakeGithub, api: Api) -> None:
    fake_github.push("alice/demo", {"README.md": "theirs\n"}, branch="feature")
    fake_github.push("alice/demo", {"README.md": "ours\n"})
    pull = fake_github.pull("alice/demo", "Conflict", head="feature")

    assert api("GET", f"{DEMO}/pulls/{pull.number}").json()["mergeable_state"] == "dirty"
    assert api("PUT", f"{DEMO}/pulls/{pull.number}/merge", json={}).status_code == 405
    assert api("POST", f"{DEMO}/pulls", json={"title": "x", "head": "none", "base": "main"}).status_code == 422

"""The fake GitHub limits, fails, remembers and obeys as the tests of the tool need it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers import github_faults as faults
from tests.servers.github import ALICE_TOKEN, FakeGithub, populate
from tests.servers.github_asking import Api

DEMO = "/repos/alice/demo"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def api(fake_github: FakeGithub) -> Generator[Api, None, None]:
    with Api(fake_github, ALICE_TOKEN) as asked:
        yield asked


# -- limits and conditions -----------------------------------------------------------------------------------------


def test_what_has_not_changed_costs_nothing(fake_github: FakeGithub, api: Api) -> None:
    first = api("GET", DEMO)
    unchanged = [
        api("GET", DEMO, headers={"If-None-Match": first.headers["ETag"]}),
        api("GET", DEMO, headers={"If-Modified-Since": first.headers["Last-Modified"]}),
    ]
    fake_github.push("alice/demo", {"x": "1"})
    fake_github.issue("alice/demo", "Counts as a change")
    changed = api("GET", DEMO, headers={"If-None-Match": first.headers["ETag"]})

    assert [(each.status_code, each.content) for each in unchanged] == [(304, b""), (304, b"")]
    assert changed.status_code == 200
    assert fake_github.used(ALICE_TOKEN) == 2
    assert [each.charged for each in fake_github.requests] == [True, False, False, True]


def test_the_same_object_has_another_etag_for_another_media_type(api: Api) -> None:
    url = f"{DEMO}/contents/README.md"

    raw = api("GET", url, headers={"Accept": "application/vnd.github.raw+json"}).headers["ETag"]

    assert raw != api("GET", url).headers["ETag"]


def test_each_bucket_has_its_own_limit_and_time(fake_github: FakeGithub, api: Api) -> None:
    fake_github.token("alice", token="ghp_second")
    second = Api(fake_github, "ghp_second")
    fake_github.limit(ALICE_TOKEN, "core", remaining=1, reset_in_s=100)
    fake_github.limit(ALICE_TOKEN, "code_search", remaining=0)

    last, over, by_another_token = api("GET", DEMO), api("GET", DEMO), second("GET", DEMO)

    assert (last.status_code, last.headers["X-RateLimit-Remaining"]) == (200, "0")
    assert (over.status_code, by_another_token.status_code) == (403, 403)
    assert over.json()["message"].startswith("API rate limit exceeded")
    assert api("GET", "/search/issues?q=x").headers["X-RateLimit-Resource"] == "search"
    assert api("GET", "/search/code?q=x").status_code == 403
    assert api("GET", "/rate_limit").json()["resources"]["core"]["remaining"] == 0
    fake_github.advance(101)
    assert api("GET", DEMO).status_code == 200
    second.session.close()


def test_secondary_limits_count_writes_and_concurrency(fake_github: FakeGithub, api: Api) -> None:
    fake_github.limits.content_per_minute = 2
    fake_github.limits.retry_after_s = 7

    answers = [api("POST", f"{DEMO}/issues", json={"title": "x"}) for _ in range(3)]

    assert [each.status_code for each in answers] == [201, 201, 403]
    assert answers[2].headers["Retry-After"] == "7"
    assert "secondary rate limit" in answers[2].json()["message"]
    assert api("GET", DEMO).status_code == 200
    fake_github.advance(61)
    assert api("POST", f"{DEMO}/issues", json={"title": "x"}).status_code == 201


def test_concurrency_is_seen(fake_github: FakeGithub) -> None:
    fake_github.latency(0.05)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(requests.get, timeout=10), [f"{fake_github.url}{DEMO}"] * 16))

    assert 4 <= fake_github.limits.highest_concurrency <= 8


# -- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [faults.bad_gateway(after=True), faults.reset(after=True)], ids=["502", "reset"])
def test_an_answer_can_be_lost_after_the_effect(fake_github: FakeGithub, api: Api, fault: faults.Fault) -> None:
    fake_github.fail(fault.on("POST"))

    if fault.kind == "reset":
        with pytest.raises(requests.ConnectionError):
            api("POST", f"{DEMO}/issues", json={"title": "Made"})
    else:
        assert api("POST", f"{DEMO}/issues", json={"title": "Made"}).status_code == 502

    assert [each.title for each in fake_github.find("alice/demo").issues.values()] == ["Login fails", "Made"]
    assert [(each.status, each.applied, each.fault) for each in fake_github.requests] == [
        (502 if fault.kind == "status" else 0, True, fault.kind)
    ]


@pytest.mark.parametrize("fault", [faults.bad_gateway(), faults.reset(), faults.too_many()])
def test_a_fault_before_the_effect_prevents_it(fake_github: FakeGithub, api: Api, fault: faults.Fault) -> None:
    fake_github.fail(fault)

    try:
        api("POST", f"{DEMO}/issues", json={"title": "Made"})
    except requests.ConnectionError:
        assert fault.kind == "reset"

    assert len(fake_github.find("alice/demo").issues) == 1
    assert not fake_github.requests[0].applied
    assert api("POST", f"{DEMO}/issues", json={"title": "Made"}).status_code == 201


def test_refusals_for_limits_look_like_githubs(fake_github: FakeGithub, api: Api) -> None:
    fake_github.fail(
        *(faults.primary(reset_in_s=40), faults.secondary(retry_after="9"), faults.abuse(), faults.forbidden()),
        *(faults.too_many(), faults.too_many(retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), faults.accepted()),
    )

    answers = [api("GET", DEMO) for _ in range(8)]

    assert [each.status_code for each in answers] == [403, 403, 403, 403, 429, 429, 202, 202]
    assert answers[0].headers["X-RateLimit-Remaining"] == "0"
    assert int(answers[0].headers["X-RateLimit-Reset"]) - time.time() == pytest.approx(40, abs=5)
    assert [each.headers.get("Retry-After") for each in answers[1:6]] == [
        *("9", None, None, None, "Wed, 21 Oct 2026 07:28:00 GMT")
    ]
    assert answers[3].headers["X-RateLimit-Remaining"] == "5000"


def test_answers_can_be_spoiled(fake_github: FakeGithub, api: Api) -> None:
    elsewhere = "http://127.0.0.1:1/elsewhere"
    fake_github.fail(
        *(faults.Fault(kind="truncate"), faults.Fault(kind="garbage"), faults.Fault(kind="link", url=elsewhere)),
        *(faults.redirect(elsewhere), faults.Fault(kind="no_headers"), faults.Fault(kind="slow", delay_s=0.2)),
    )

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        api("GET", DEMO)
    garbage, link, redirect, bare, slow = (api("GET", DEMO) for _ in range(5))

    assert garbage.text.startswith("<html>")
    assert link.links["next"]["url"] == redirect.headers["Location"] == elsewhere
    assert "X-RateLimit-Remaining" not in bare.headers
    assert slow.elapsed.total_seconds() >= 0.2


@pytest.mark.parametrize("kind", ["endless", "bomb"])
def test_bodies_can_be_too_large_for_any_client(fake_github: FakeGithub, api: Api, kind: Any) -> None:
    fake_github.fail(faults.Fault(kind=kind))

    answer = api("GET", DEMO, stream=True)
    size = 0
    for chunk in answer.iter_content(65_536):
        size += len(chunk)
        if size > 5_000_000:
            break
    answer.close()

    assert size > 5_000_000


def test_a_hanging_request_holds_no_other_up_and_ends_with_the_fake() -> None:
    with FakeGithub() as github:
        populate(github)
        github.fail(faults.hang())
        hanging = threading.Thread(target=_ask_in_vain, args=(github.url,))
        hanging.start()
        _until_asked(github)
        assert requests.get(f"{github.url}{DEMO}", timeout=10).status_code == 200

    hanging.join(10)
    assert not hanging.is_alive()


def _ask_in_vain(url: str) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}{DEMO}", timeout=20)


def _until_asked(github: FakeGithub) -> None:
    give_up_at = time.monotonic() + 10
    while not github.requests:
        assert time.monotonic() < give_up_at


def test_chances_repeat_with_their_seed() -> None:
    runs = list[list[bool]]()
    for _ in range(2):
        plan = faults.Plan(seed=7)
        plan.add(faults.bad_gateway().always(0.3))
        runs.append([plan.pick("GET", "/") is not None for _ in range(200)])

    assert runs[0] == runs[1]
    assert 40 < sum(runs[0]) < 80


# -- log and control -----------------------------------------------------------------------------------------------


def test_the_log_says_who_asked_for_what_without_the_token(fake_github: FakeGithub, api: Api) -> None:
    api("GET", f"{DEMO}/issues/1")
    api("GET", "/repos/bob/secret")
    api("GET", f"{DEMO}/contents/..%2F..%2F..%2Facme/tmpl")

    first, *_ = fake_github.requests
    assert first.operation == "GET /repos/{owner}/{repo}/issues/{issue_number}"
    assert first.credential == fake_github.fingerprint(ALICE_TOKEN)
    assert [each.repository for each in fake_github.outside("alice/demo")] == ["bob/secret"]
    assert ALICE_TOKEN not in repr(fake_github.requests)
    fake_github.forget()
    assert fake_github.sent() == []


def test_other_processes_control_the_fake_over_http(fake_github: FakeGithub, api: Api) -> None:
    control = f"{fake_github.url}/_control"
    made: dict[str, Any] = {"full_name": "alice/other", "files": {"x": "1"}}

    requests.post(f"{control}/faults", json=[{"kind": "status", "status": 503, "method": "GET"}], timeout=5)
    requests.put(f"{control}/limit", json={"token": ALICE_TOKEN, "remaining": 5}, timeout=5)
    requests.post(f"{control}/repositories", json=made, timeout=5)
    failed, served = api("GET", DEMO), api("GET", "/repos/alice/other")

    assert (failed.status_code, served.headers["X-RateLimit-Remaining"]) == (503, "4")
    assert [each["status"] for each in requests.get(f"{control}/requests", timeout=5).json()] == [503, 200]
    state = requests.get(f"{control}/state", timeout=5).json()
    assert state["alice/other"]["branches"]["main"]["files"] == ["x"]
    assert state["alice/demo"]["issues"] == ["Login fails"]
    assert requests.get(f"{control}/violations", timeout=5).json() == []
    assert requests.post(f"{control}/faults", json=[{"kind": "unknown"}], timeout=5).status_code == 400
    assert requests.get(f"{control}/nothing", timeout=5).status_code == 404


def test_the_fake_runs_as_a_program_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.servers.github"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        asked = requests.get(f"{url}/user", headers={"Authorization": f"Bearer {ALICE_TOKEN}"}, timeout=10)
        process.terminate()

        assert process.wait(10) == 0
    assert asked.json()["login"] == "alice"

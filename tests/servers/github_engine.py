"""One request to the fake GitHub, from the credential to the checked answer; without any sockets."""

import email.utils
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from tests.servers import (
    github_accounts,
    github_files,
    github_history,
    github_issues,
    github_pulls,
    github_search_issues,
    github_search_others,
)
from tests.servers.github_faults import Fault, Plan
from tests.servers.github_limits import Limits, OverLimit, bucket_of
from tests.servers.github_routes import DOCUMENTATION, Answer, Context, Json, Refused, Route, find_route
from tests.servers.github_spec import request_faults, response_faults
from tests.servers.github_wire import Logged, Reply, Request, fingerprint
from tests.servers.github_world import Viewer, World

HANDLERS = (  # importing them registers what they answer
    *(github_accounts, github_files, github_history, github_issues, github_pulls, github_search_issues),
    github_search_others,
)
_ENTERPRISE = "/api/v3"


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request, taken apart."""

    request: Request
    path: str
    """Decoded, without the query and without an Enterprise server's prefix."""
    query: dict[str, str]
    prefix: str


@dataclass(kw_only=True)
class Engine:
    """The fake without its server."""

    world: World = field(default_factory=World)
    limits: Limits = field(default_factory=Limits)
    plan: Plan = field(default_factory=Plan)
    requests: list[Logged] = field(default_factory=list[Logged])
    violations: list[str] = field(default_factory=list[str])
    """Where an answer was not as GitHub describes it: mistakes of the fake."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        raw_path, _, raw_query = request.target.partition("?")
        prefix = _ENTERPRISE if raw_path.startswith(f"{_ENTERPRISE}/") else ""
        path = unquote(raw_path.removeprefix(prefix))
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        asked = _Asked(request=request, path=path, query=query, prefix=prefix)
        with self.lock:
            fault = self.plan.pick(request.method, path)
            if fault is not None and fault.hides_answer and not fault.after:
                return self._failed(asked, fault)
            return self._apply(asked, fault)

    def _failed(self, asked: _Asked, fault: Fault) -> Reply:
        """Nothing is done: the fault is all there is."""
        try:
            viewer = self._viewer(asked.request)
        except Refused:
            viewer = Viewer()
        headers = self._headers(viewer, bucket_of(asked.path))
        reply = self._spoiled(Reply(status=0, headers=headers, body=b"", fault=fault))
        self._log(asked, status=reply.status, fault=fault, applied=False)
        return reply

    def _apply(self, asked: _Asked, fault: Fault | None) -> Reply:
        request, bucket, now = asked.request, bucket_of(asked.path), self.world.now()
        viewer, operation, charged = Viewer(), "", bool(bucket)
        try:
            viewer = self._viewer(request)
            self.limits.check(viewer, bucket, request.method, now)
            inner = self._by_number(asked.path)
            found = find_route(request.method, inner)
            if found is None:
                raise Refused(404, "Not Found")
            operation = found[0].operation
            answer = self._answer(asked, viewer, found, inner)
        except Refused as error:
            answer = error.answer
            charged = charged and not isinstance(error, OverLimit) and answer.status != 401
        status, headers, raw = self._encode(request, answer)
        if operation and answer.raw is None and answer.content_type.startswith("application/json") and status != 304:
            self.violations.extend(response_faults(operation, status, answer.body))
        charged = charged and not (status == 304 and bool(viewer.budget))
        if charged:
            self.limits.charge(viewer, bucket, now)
        headers = self._headers(viewer, bucket) | headers
        reply = self._spoiled(Reply(status=status, headers=headers, body=raw, fault=fault))
        self._log(asked, status=reply.status, operation=operation, fault=fault, applied=True, charged=charged)
        return reply

    def _spoiled(self, reply: Reply) -> Reply:
        """The reply as its fault leaves it; what happens to the connection is the server's part."""
        fault, headers = reply.fault, dict(reply.headers)
        if fault is None:
            return reply
        status, body = reply.status, reply.body
        if fault.kind == "no_headers":
            headers = {name: value for name, value in headers.items() if not name.startswith("X-RateLimit-")}
        elif fault.kind == "link":
            headers["Link"] = f'<{fault.url}>; rel="next", <{fault.url}>; rel="last"'
        elif fault.hides_answer:
            for name in ("ETag", "Last-Modified", "Link"):
                headers.pop(name, None)
            status = {"reset": 0, "hang": 0, "garbage": 200, "endless": 200, "bomb": 200}.get(fault.kind, fault.status)
            body = _message(fault)
            headers["Content-Type"] = "application/json; charset=utf-8" if fault.message else "text/html"
            if not fault.message and fault.kind == "status":  # not GitHub itself: nothing of GitHub's
                headers = {"Content-Type": "text/html"}
            if fault.kind == "redirect":
                headers["Location"] = fault.url
            if fault.reset_in_s is not None:
                headers["X-RateLimit-Remaining"] = "0"
                headers["X-RateLimit-Reset"] = str(int(self.world.now() + fault.reset_in_s))
        return Reply(status=status, headers=headers | fault.headers, body=body, fault=fault)

    def _answer(self, asked: _Asked, viewer: Viewer, found: tuple[Route, dict[str, str]], path: str) -> Answer:
        request = asked.request
        route, places = found
        body = _json(request.body)
        faults = request_faults(route.operation, body)
        if faults:
            first = re.sub('^/: ("\\w+") is a required property$', r"\1 wasn't supplied.", faults[0].partition(": ")[2])
            raise Refused(422, f"Invalid request.\n\n{first}")
        context = Context(
            world=self.world,
            viewer=viewer,
            method=request.method,
            path=path,
            places=places,
            query=asked.query,
            accept=request.headers.get("accept", ""),
            body=body or {},
            api=f"http://{request.host}{asked.prefix}",
            web=f"http://{request.host}",
        )
        answer = route.handler(context)
        if route.operation == "GET /rate_limit":
            figures = self.limits.overview(viewer, self.world.now(), answer.body)
            return Answer(body=figures)
        return answer

    def _viewer(self, request: Request) -> Viewer:
        if not request.headers.get("user-agent"):
            raise Refused(403, "Request forbidden by administrative rules. Please send a User-Agent header.")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            return Viewer()
        if scheme.lower() not in ("token", "bearer"):
            raise Refused(401, "Bad credentials")
        if token.count(".") == 2:
            return Viewer(app=github_accounts.app_of(self.world, token))
        found = self.world.tokens.get(token.strip())
        if found is None or (found.expires_at is not None and found.expires_at <= self.world.now()):
            raise Refused(401, "Bad credentials")
        return found

    def _by_number(self, path: str) -> str:
        """`/repositories/5/issues` as `/repos/owner/name/issues`."""
        if not path.startswith("/repositories/"):
            return path
        number, slash, rest = path.removeprefix("/repositories/").partition("/")
        found = self.world.repositories.get(int(number)) if number.isdigit() else None
        return path if found is None else f"/repos/{found.full_name}{slash}{rest}"

    def _encode(self, request: Request, answer: Answer) -> tuple[int, dict[str, str], bytes]:
        headers = dict(answer.headers)
        raw = answer.raw
        if raw is None:
            raw = b"" if answer.body is None else json.dumps(answer.body, ensure_ascii=False).encode()
        if answer.body is not None or answer.raw is not None:
            headers["Content-Type"] = answer.content_type
        if request.method != "GET" or answer.status != 200:
            return answer.status, headers, raw
        digest = hashlib.sha256(raw + request.headers.get("accept", "").encode()).hexdigest()
        headers |= {
            "ETag": f'W/"{digest}"',
            "Cache-Control": "private, max-age=60, s-maxage=60",
            "Vary": "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding",
        }
        if answer.modified_at is not None:
            headers["Last-Modified"] = email.utils.formatdate(int(answer.modified_at), usegmt=True)
        if _is_unchanged(request, digest, headers.get("Last-Modified")):
            return 304, headers, b""
        return 200, headers, raw

    def _headers(self, viewer: Viewer, bucket: str) -> dict[str, str]:
        number = next(self._numbers)
        headers = {
            "X-GitHub-Request-Id": f"0000:{number:08X}",
            "X-GitHub-Media-Type": "github.v3; format=json",
            "X-GitHub-Api-Version-Selected": "2022-11-28",
        }
        if viewer.login is not None:
            headers |= {"X-OAuth-Scopes": ", ".join(sorted(viewer.scopes)), "X-Accepted-OAuth-Scopes": "repo"}
        return headers | self.limits.headers(viewer, bucket, self.world.now())

    def _log(
        self,
        asked: _Asked,
        *,
        status: int,
        fault: Fault | None,
        applied: bool,
        operation: str = "",
        charged: bool = False,
    ) -> None:
        request = asked.request
        token = request.headers.get("authorization", "").partition(" ")[2]
        segments = self._by_number(asked.path).split("/")
        named = "/".join(segments[2:4]) if segments[1:2] == ["repos"] else ""
        self.requests.append(
            Logged(
                method=request.method,
                path=asked.path,
                query=asked.query,
                operation=operation,
                repository=named.lower(),
                credential=fingerprint(token) if token else "",
                bucket=bucket_of(asked.path),
                status=status,
                fault="" if fault is None else fault.kind,
                applied=applied,
                charged=charged,
                conditional=not {"if-none-match", "if-modified-since"}.isdisjoint(request.headers),
            )
        )


def _message(fault: Fault) -> bytes:
    if not fault.message:
        return b"<html><body><h1>This is not GitHub's API</h1></body></html>"
    return json.dumps({"message": fault.message, "documentation_url": DOCUMENTATION}).encode()


def _json(raw: bytes) -> Json | None:
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise Refused(400, "Body should be a JSON object") from error
    except msgspec.DecodeError as error:
        raise Refused(400, "Problems parsing JSON") from error


def _is_unchanged(request: Request, digest: str, modified: str | None) -> bool:
    known = request.headers.get("if-none-match")
    if known is not None:
        return any(each.strip().removeprefix("W/").strip('"') == digest for each in known.split(","))
    since = request.headers.get("if-modified-since")
    if since is None or modified is None:
        return False
    try:
        return email.utils.parsedate_to_datetime(modified) <= email.utils.parsedate_to_datetime(since)
    except ValueError:
        return False

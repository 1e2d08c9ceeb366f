"""Request -> operation, tool, queue, priority and fallbacks, with the rule that decided and the one that came second.

Pure: the same request, catalogue and rules give the same route. Order: the tool is named · only one tool has the
operation · a host is named · a repository is named · the operator's rules · the built-in path rules · the default tool.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from routing.rules import PATH_RULES, PathRule
from store import keys
from store.configuration import Routing
from toolswarm.errors import UnknownOperation
from toolswarm.messages import Effect, Operation, Route, RouteReason, SubmitBody


def classify(
    body: SubmitBody,
    catalogue: Mapping[str, Operation],
    routing: Routing,
    chains: Mapping[str, tuple[str, ...]] | None = None,
) -> Route:
    """Decide where a request goes; `chains` are the fallback chains when they are not those of the configuration.

    Raises:
        UnknownOperation: no tool has it; `details["nearest"]` has up to three names that look like it.
    """
    candidates = _candidates(body.operation, catalogue)
    reasons = _distinct(_reasons(body, candidates, routing))
    decided_by = next(reasons)
    operation = catalogue[decided_by.operation]
    return Route(
        operation=operation.full_name,
        tool=operation.tool,
        queue=keys.tool_queue(operation.tool),
        priority=body.priority,
        effect=operation.effect,
        decided_by=decided_by,
        runner_up=next(reasons, None),
        fallbacks=_fallbacks(
            operation, body.operation, candidates, catalogue, routing.fallbacks if chains is None else chains
        ),
        filled=_fill(operation, body),
    )


def _candidates(name: str, catalogue: Mapping[str, Operation]) -> dict[str, Operation]:
    """Tool -> the operation that it offers under this name."""
    if name in catalogue:
        return {catalogue[name].tool: catalogue[name]}
    tool, dot, bare = name.rpartition(".")
    found = {
        operation.tool: operation
        for operation in catalogue.values()
        if bare in operation.aliases and (not dot or operation.tool == tool)
    }
    if not dot:
        found |= {operation.tool: operation for operation in catalogue.values() if operation.name == bare}
    if found:
        return found
    names = {operation.name for operation in catalogue.values()} | set(catalogue)
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(nearest)}?" if nearest else "see /v1/tools for what there is"
    raise UnknownOperation(f"no tool has an operation {name!r}: {advice}", operation=name, nearest=nearest)


def _reasons(body: SubmitBody, candidates: Mapping[str, Operation], routing: Routing) -> Iterator[RouteReason]:
    def reason(rule: str, tool: str, why: str) -> Iterator[RouteReason]:
        if tool in candidates:
            yield RouteReason(rule=rule, operation=candidates[tool].full_name, why=why)

    if "." in body.operation:
        yield from reason("named", next(iter(candidates)), "the request names the tool")
        return
    if len(candidates) == 1:
        yield from reason("only", next(iter(candidates)), "only this tool has the operation")
        return
    host = body.arguments.get("host") or body.context.host
    repo = body.arguments.get("repo") or body.context.repo
    path = _path(body)
    if host:
        yield from reason("host-named", "droplet", f"the request names the host {host}")
    if body.arguments.get("repo"):
        yield from reason("repository-named", "github", f"the request names the repository {repo}")
    for rule in (*routing.rules, *PATH_RULES):
        if rule.tool in candidates and _matches(rule, body, path=path, host=host, repo=repo):
            why = rule.why if isinstance(rule, PathRule) else "a rule of this installation"
            yield from reason(rule.name, rule.tool, f"{why} ({path})" if path else why)
    if body.context.repo and not path:
        yield from reason("repository-in-context", "github", f"the context names the repository {repo}")
    yield from reason("default", routing.default_tool, "no rule matched, and this is the default tool")
    for tool in sorted(candidates):
        yield from reason("first-by-name", tool, "no rule matched, and the default tool does not have the operation")


def _distinct(reasons: Iterator[RouteReason]) -> Iterator[RouteReason]:
    """Each operation once, under the first rule that picks it."""
    seen: set[str] = set()
    for reason in reasons:
        if reason.operation not in seen:
            seen.add(reason.operation)
            yield reason


def _path(body: SubmitBody) -> str | None:
    path = body.arguments.get("path", body.context.path)
    if not isinstance(path, str) or not path:
        return None
    return re.sub(r"^(\./+)+", "", path.replace("\\", "/"))


def _matches(rule: Any, body: SubmitBody, *, path: str | None, host: Any, repo: Any) -> bool:
    if isinstance(rule, PathRule) and rule.needs_repo and not repo:
        return False
    return (
        bool(_pattern(rule.operation).fullmatch(body.operation))
        and (not rule.path or (path is not None and any(_pattern(glob).fullmatch(path) for glob in rule.path)))
        and (rule.host is None or rule.host == host)
        and (rule.repo is None or (isinstance(repo, str) and bool(_pattern(rule.repo).fullmatch(repo))))
    )


@lru_cache(maxsize=512)
def _pattern(glob: str) -> re.Pattern[str]:
    """`*` and `?` stay within a segment, `**/` is any number of folders, a `**` at the end everything below."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            parts.append(".*")
            at += 2
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(glob[at], re.escape(glob[at])))
            at += 1
    return re.compile("".join(parts))


def _fallbacks(
    operation: Operation,
    asked: str,
    candidates: Mapping[str, Operation],
    catalogue: Mapping[str, Operation],
    chains: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    if not operation.effect.may_run_again:
        return ()  # what must not run twice must not run elsewhere either
    chain = chains.get(operation.full_name)
    if chain is not None:  # the operator says so for this operation, however it is asked for
        found = [catalogue[name] for name in chain if name in catalogue]
    elif "." in asked or operation.effect is not Effect.READ:
        return ()  # who names the tool means it; and a write must not land elsewhere unless the operator says so
    else:
        found = [candidates[tool] for tool in chains.get(operation.tool, ()) if tool in candidates]
    return tuple(one.full_name for one in found if one.tool != operation.tool and one.effect.may_run_again)


def _fill(operation: Operation, body: SubmitBody) -> dict[str, Any]:
    return {
        argument: value
        for argument, field in operation.from_context.items()
        if argument not in body.arguments and (value := getattr(body.context, field, None)) is not None
    }

# ruff: noqa: PT028 - these are operations that are called like tests, and arguments have defaults
"""The conformance suite's tools that ask the client something before they answer."""

import asyncio
from typing import Any

from tasks.operation import Answers, InputRequired, OperationDeclaration, Run, operation
from toolswarm.errors import OperationFailed
from toolswarm.messages import Effect

Requests = dict[str, dict[str, Any]]


def form(message: str, **properties: Any) -> dict[str, Any]:
    """A request for a filled form."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sample(text: str, max_tokens: int = 100) -> dict[str, Any]:
    """A request for a model's words."""
    message = {"role": "user", "content": {"type": "text", "text": text}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": max_tokens}}


ROOTS: dict[str, Any] = {"method": "roots/list", "params": {}}
TEXT = {"type": "string"}
NAME = form("What is your name?", name=TEXT)


def answered(answers: Answers | None, requests: Requests, *, state: str | None = None) -> dict[str, Any]:
    """All answers; asks again for those that are missing or are none."""
    responses = {} if answers is None else answers.responses
    if any(not isinstance(responses.get(name), dict) for name in requests):
        raise InputRequired("more has to be known", requests=requests, state=state)
    if state is not None and (answers is None or answers.state != state):
        raise OperationFailed("the state is not the one that was sent", code="wrong_state")
    return responses


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_elicitation(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask for a name."""
    given = answered(answers, {"user_name": NAME})["user_name"]
    return f"Hello, {given.get('content', {}).get('name')}!"


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_sampling(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask a model."""
    question = sample("What is the capital of France?")
    return str(answered(answers, {"capital_question": question})["capital_question"]["content"]["text"])


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_list_roots(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask for roots."""
    return str(answered(answers, {"client_roots": ROOTS})["client_roots"]["roots"])


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_request_state(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask, and know again what was noted."""
    answered(answers, {"confirm": form("Please confirm", ok={"type": "boolean"})}, state="noted")
    return "state-ok"


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_tampered_state(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask, and note something that must not be changed."""
    answered(answers, {"confirm": form("Please confirm", ok={"type": "boolean"})}, state="noted")
    return "state-ok"


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_multiple_inputs(
    resources: Any, run: Run, *, answers: Answers | None = None
) -> str:
    """Ask three things at once."""
    requests = {"user_name": NAME, "greeting": sample("Generate a greeting", 50), "client_roots": ROOTS}
    return str(sorted(answered(answers, requests, state="three")))


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_multi_round(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask one thing after the other."""
    if answers is None or answers.state != "round-2":
        first = answered(answers, {"step1": form("Step 1: What is your name?", name=TEXT)}, state="round-1")
        question = form("Step 2: What is your favorite color?", color=TEXT)
        raise InputRequired(f"and now, {first['step1']}", requests={"step2": question}, state="round-2")
    return str(answers.responses)


@operation(effect=Effect.READ, answers_argument="answers")
async def test_input_required_result_capabilities(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask two things; only what the client can answer is asked."""
    if answers is None:
        raise InputRequired("either will do", requests={"user_name": NAME, "words": sample("Say something")})
    return str(answers.responses)


@operation(effect=Effect.READ, answers_argument="answers")
async def test_missing_capability(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask a model, whatever the client can do."""
    return str(answered(answers, {"words": sample("Say something")}))


@operation(effect=Effect.READ, answers_argument="answers")
async def test_streaming_elicitation(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask for a name."""
    return str(answered(answers, {"user_name": NAME}))


@operation(effect=Effect.READ, answers_argument="answers")
async def test_sampling(resources: Any, run: Run, *, prompt: str, answers: Answers | None = None) -> str:
    """Ask a model."""
    return f"LLM response: {answered(answers, {'words': sample(prompt)})['words']}"


@operation(effect=Effect.READ, answers_argument="answers")
async def test_elicitation(resources: Any, run: Run, *, message: str, answers: Answers | None = None) -> str:
    """Ask for a name and an address."""
    question = form(
        message,
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    return f"User response: {answered(answers, {'user': question})['user']}"


@operation(effect=Effect.READ, answers_argument="answers")
async def test_elicitation_sep1034_defaults(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask with defaults of all kinds."""
    question = form(
        "Please review",
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    return f"Elicitation completed: {answered(answers, {'user': question})['user']}"


def _titled(*titles: str) -> list[dict[str, str]]:
    return [{"const": f"value{place}", "title": title} for place, title in enumerate(titles, 1)]


@operation(effect=Effect.READ, answers_argument="answers")
async def test_elicitation_sep1330_enums(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask with choices of all kinds."""
    options = ["option1", "option2", "option3"]
    legacy = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    question = form(
        "Please choose",
        untitledSingle={"type": "string", "enum": options},
        titledSingle={"type": "string", "oneOf": _titled("First Option", "Second Option", "Third Option")},
        legacyEnum={"type": "string", **legacy},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
        titledMulti={"type": "array", "items": {"anyOf": _titled("First Choice", "Second Choice", "Third Choice")}},
    )
    return f"Elicitation completed: {answered(answers, {'user': question})['user']}"


async def _prepare(answers: Answers | None) -> None:
    """Longer than a client that can hold tasks waits, so that it gets one."""
    if answers is None:
        await asyncio.sleep(1)


@operation(effect=Effect.READ, answers_argument="answers")
async def confirm_delete(resources: Any, run: Run, *, filename: str, answers: Answers | None = None) -> str:
    """Ask before it goes on, as a task."""
    await _prepare(answers)
    answered(answers, {"confirm": form(f"Delete {filename}?", confirm={"type": "boolean"})})
    return f"deleted {filename}"


@operation(effect=Effect.READ, answers_argument="answers")
async def multi_input(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask two things at once, as a task."""
    await _prepare(answers)
    return str(answered(answers, {"first": NAME, "second": form("And yours?", name=TEXT)}))


@operation(effect=Effect.READ, answers_argument="answers")
async def test_tool_with_task(resources: Any, run: Run, *, answers: Answers | None = None) -> str:
    """Ask at once, then take a while."""
    given = answered(answers, {"user_name": NAME})["user_name"]
    await asyncio.sleep(1)
    return f"Hello, {given.get('content', {}).get('name')}!"


OPERATIONS: tuple[OperationDeclaration, ...] = (
    *(test_input_required_result_elicitation, test_input_required_result_sampling),
    *(test_input_required_result_list_roots, test_input_required_result_request_state),
    *(test_input_required_result_tampered_state, test_input_required_result_multiple_inputs),
    *(test_input_required_result_multi_round, test_input_required_result_capabilities),
    *(test_missing_capability, test_streaming_elicitation, test_sampling, test_elicitation),
    *(test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums),
    *(confirm_delete, multi_input, test_tool_with_task),
)

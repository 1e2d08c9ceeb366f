"""How an operation is declared: once, as a typed function; its schema, name and description come from there.

```python
@operation(effect=Effect.READ, time_limit_s=10)
def read_file(desk: Desk, run: Run, *, path: Annotated[str, Meta(description="…")]) -> FileText:
    \"\"\"Read a text file.\"\"\"

TOOL = Tool(name="desktop", open=Desk.open, operations=(read_file,))
```

The first parameter is the tool's own resources (made once per process by `Tool.open`), the second the run of this
call, the keyword-only rest the arguments. A function may be `async` (it runs on the worker's loop and is cancelled
there) or not (it runs in a thread, and must look at `run.stop_requested()` if it may take long).

A read may be remembered: `remember` says for how long, `tags` what its answer depends on (`repo:{repo}`), and the
writes that make such answers out of date name the same tags in `changes`. The values in the places are the arguments,
as the tool's `tag_values` spells them: the same thing must have the same name in both.

A `verifiable` operation has a `probe` with the same parameters: it looks whether an earlier attempt, whose end nobody
saw, had its effect. It returns what the operation would have returned, or NOT_DONE: then the operation is run. When it
cannot tell it raises OperationFailed, and the call's outcome is `unknown`.

An operation that has to ask somebody raises InputRequired, and is called again with the answers in the argument that
`answers_argument` names (of type `Answers | None`). Until it has what it needs it changes nothing.
"""

import hashlib
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeVar, get_type_hints

import msgspec

from store.configuration import Configuration
from toolswarm.errors import InvalidArguments, OperationFailed, ToolswarmError
from toolswarm.messages import Effect, Operation, Remember, ToolCall, canonical

T = TypeVar("T")
_NEVER = Remember()
INPUT_REQUIRED: Final = "input_required"
"""The code of a call that ended because its operation asks something."""


class _NotDone:
    def __repr__(self) -> str:
        return "NOT_DONE"


NOT_DONE: Final = _NotDone()
"""What a probe returns when the earlier attempt had no effect."""


class Postponed(ToolswarmError):
    """The call cannot be run yet (a rate budget is used up): it waits in the ledger, not in a slot, and comes again.

    The attempt does not count. When the call's deadline comes first, the call fails now, with this code and message.
    """

    code = "postponed"
    retryable = True

    def __init__(self, message: str, /, *, delay_s: float, code: str = "postponed", **details: Any) -> None:
        super().__init__(message, **details)
        self.delay_s = delay_s
        self.failure_code = code


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered to an operation that asked, and what it noted when it did."""

    responses: dict[str, Any]
    """By the name of the request: `{"action": "accept", "content": {…}}` and the like."""
    state: str | None = None


class InputRequired(OperationFailed):
    """The operation asks before it goes on; nothing was changed.

    `requests` are those of MCP: name -> `{"method": "elicitation/create", "params": {…}}`. `state` comes back with the
    answers; callers over MCP cannot read or change it.
    """

    def __init__(self, message: str, /, *, requests: Mapping[str, Mapping[str, Any]], state: str | None = None) -> None:
        super().__init__(message, code=INPUT_REQUIRED, before_effect=True, requests=dict(requests), state=state)


class Run(Protocol):
    """What an operation may know and say about the attempt that it is part of; filled in by the workers."""

    @property
    def call(self) -> ToolCall:
        """The call; its arguments have been validated."""
        ...

    @property
    def fence(self) -> int:
        """Grows with every attempt of this call: who holds a lower one must not write."""
        ...

    def remaining_s(self) -> float:
        """Seconds until the attempt is stopped by its time limit or the call's deadline."""
        ...

    def stop_requested(self) -> bool:
        """Whether the attempt is to stop now: cancelled, out of time, or its lease lost."""
        ...

    def begin_effect(self) -> None:
        """Record that the point of no return comes next; for functions in a thread. Blocks for one round trip.

        Raises:
            LeaseLost: another attempt holds the call, or it was cancelled: change nothing.
        """
        ...

    async def begin_effect_async(self) -> None:
        """The same for `async` functions."""
        ...

    def executed_on(self, place: str) -> None:
        """Say where the effect happens: a host name, a server's address."""
        ...

    @property
    def worker(self) -> str:
        """Name of the worker; the first part of the id of a session that lives in it (see `session_argument`)."""
        ...

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the worker's loop and wait for it; for functions in a thread."""
        ...

    def tell(self, output: Mapping[str, Any]) -> None:
        """Say something to whoever follows the call's events (`{"stream": "stdout", "text": "…"}`, `{"done": 3}`).

        Never waits, bears being called from a thread, and promises nothing: what nobody follows is not sent, and
        a follower who is too slow misses some. The result says all.
        """
        ...


class OperationDeclaration:
    """A function with what the catalogue says of it. `function` is the plain function, for direct calls."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        effect: Effect,
        time_limit_s: float,
        tags: tuple[str, ...],
        changes: tuple[str, ...],
        remember: Remember,
        aliases: tuple[str, ...],
        from_context: Mapping[str, str],
        secret_arguments: tuple[str, ...],
        marks_effect: bool,
        probe: Callable[..., Any] | None,
        session_argument: str,
        destructive: bool,
        answers_argument: str,
    ) -> None:
        if (effect is Effect.VERIFIABLE) != (probe is not None):
            raise TypeError(f"{function.__name__}: a verifiable operation has a probe, and no other has one")
        if (remember != Remember() or tags) and effect is not Effect.READ:
            raise TypeError(f"{function.__name__}: only what changes nothing is remembered")
        if changes and effect is Effect.READ:
            raise TypeError(f"{function.__name__}: a read changes nothing")
        self.function = function
        self.probe = probe
        self.session_argument = session_argument
        self.destructive = destructive
        self.answers_argument = answers_argument
        self.name = function.__name__
        self.effect = effect
        self.time_limit_s = time_limit_s
        self.tags = tags
        self.changes = changes
        self.remember = remember
        self.aliases = aliases
        self.from_context = dict(from_context)
        self.secret_arguments = secret_arguments
        self.marks_effect = marks_effect
        self.is_async = inspect.iscoroutinefunction(function)
        self._arguments = _arguments_struct(function)
        self._result = _result_schema(function)
        if answers_argument and answers_argument not in self._arguments.__struct_fields__:
            raise TypeError(f"{function.__name__}: there is no argument {answers_argument!r} for answers")

    def describe(self, tool: str, edition: str = "") -> Operation:
        """The entry of the catalogue; `edition` stands for all that answers depend on beside the declaration."""
        parameters = _parameters(self._arguments)
        title, _, _ = inspect.cleandoc(self.function.__doc__ or self.name).partition("\n")
        return Operation(
            tool=tool,
            name=self.name,
            title=title.rstrip("."),
            description=inspect.cleandoc(self.function.__doc__ or ""),
            parameters=parameters,
            result=self._result,
            effect=self.effect,
            tags=self.tags,
            changes=self.changes,
            remember=self.remember,
            version=hashlib.sha256(canonical((parameters, self._result, self.tags, edition))).hexdigest()[:16],
            time_limit_s=self.time_limit_s,
            aliases=self.aliases,
            from_context=self.from_context,
            secret_arguments=self.secret_arguments,
            session_argument=self.session_argument,
            destructive=self.destructive,
            answers_argument=self.answers_argument,
        )

    def convert(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function's types want them.

        Raises:
            InvalidArguments: an argument is missing, extra or of a wrong type.
        """
        try:
            values = msgspec.convert(dict(arguments), self._arguments)
        except msgspec.ValidationError as error:
            raise InvalidArguments(f"{self.name}: {error}") from error
        return {name: getattr(values, name) for name in self._arguments.__struct_fields__}


def operation(
    *,
    effect: Effect,
    time_limit_s: float = 60.0,
    tags: tuple[str, ...] = (),
    changes: tuple[str, ...] = (),
    remember: Remember = _NEVER,
    aliases: tuple[str, ...] = (),
    from_context: Mapping[str, str] | None = None,
    secret_arguments: tuple[str, ...] = (),
    marks_effect: bool = False,
    probe: Callable[..., Any] | None = None,
    session_argument: str = "",
    destructive: bool = False,
    answers_argument: str = "",
) -> Callable[[Callable[..., Any]], OperationDeclaration]:
    """Declare a function as an operation.

    `marks_effect` says that the function calls `run.begin_effect()` itself, at the right moment; otherwise the
    worker does so just before it runs a `verifiable` or `once` operation. `from_context` maps an argument to the
    field of the context that fills it when the caller leaves it out; such an argument needs a default or is
    required of the caller by the schema all the same. `session_argument` names the argument that holds the id of a
    session (`WORKER.anything`, WORKER being `run.worker`): such calls go to the worker that the session lives in.
    `destructive` says that it may overwrite or remove what was there. `answers_argument` names the argument that has
    the answers when the operation is called again after it raised InputRequired.
    """

    def declare(function: Callable[..., Any]) -> OperationDeclaration:
        return OperationDeclaration(
            function,
            effect=effect,
            time_limit_s=time_limit_s,
            tags=tags,
            changes=changes,
            remember=remember,
            aliases=aliases,
            from_context=from_context or {},
            secret_arguments=secret_arguments,
            marks_effect=marks_effect,
            probe=probe,
            session_argument=session_argument,
            destructive=destructive,
            answers_argument=answers_argument,
        )

    return declare


class Tool:
    """A family of operations with one queue and one pool; `open` makes the resources its operations share."""

    def __init__(
        self,
        *,
        name: str,
        open: Callable[[Configuration], Any],
        operations: tuple[OperationDeclaration, ...],
        target: Callable[[Any, Mapping[str, Any]], str | None] | None = None,
        tag_values: Callable[[Any, Run, Mapping[str, Any]], Mapping[str, Any]] | None = None,
    ) -> None:
        """`target` says what a call with these arguments depends on (a host, an API): it has a circuit breaker.

        `tag_values` spells the arguments for the places in tags: each thing by its one full name (`acme/weather` for
        `weather`), several as a list. It runs in a thread, and what it raises is no failure of the call.
        """
        self.name = name
        self.target = target
        self.tag_values = tag_values
        self.open = open
        self.operations = {declaration.name: declaration for declaration in operations}

    def describe(self, edition: str = "") -> list[Operation]:
        """The tool's part of the catalogue."""
        return [declaration.describe(self.name, edition) for declaration in self.operations.values()]


def _arguments_struct(function: Callable[..., Any]) -> type[msgspec.Struct]:
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        annotation = hints[parameter.name]
        if parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, annotation))
        else:
            fields.append((parameter.name, annotation, parameter.default))
    return msgspec.defstruct(function.__name__, fields, kw_only=True, forbid_unknown_fields=True)


def _result_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Schema of what the function returns; empty when its annotation says nothing, or no schema can say it."""
    annotation = get_type_hints(function, include_extras=True).get("return", Any)
    if annotation in (Any, object):
        return {}
    try:
        return dict(msgspec.json.schema(annotation))
    except TypeError:
        return {}


def _parameters(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    (reference,), components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    name = reference["$ref"].rsplit("/", 1)[1]
    schema = components.pop(name)
    schema.pop("title", None)
    schema.setdefault("properties", {})
    schema["additionalProperties"] = False
    if components:
        schema["$defs"] = components
    return dict(schema)

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
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, get_type_hints

import msgspec

from store.configuration import Configuration
from toolswarm.errors import InvalidArguments
from toolswarm.messages import Effect, Operation, ToolCall


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


class OperationDeclaration:
    """A function with what the catalogue says of it. `function` is the plain function, for direct calls."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        effect: Effect,
        time_limit_s: float,
        tags: tuple[str, ...],
        aliases: tuple[str, ...],
        from_context: Mapping[str, str],
        secret_arguments: tuple[str, ...],
        marks_effect: bool,
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.effect = effect
        self.time_limit_s = time_limit_s
        self.tags = tags
        self.aliases = aliases
        self.from_context = dict(from_context)
        self.secret_arguments = secret_arguments
        self.marks_effect = marks_effect
        self.is_async = inspect.iscoroutinefunction(function)
        self._arguments = _arguments_struct(function)

    def describe(self, tool: str) -> Operation:
        """The entry of the catalogue."""
        title, _, _ = inspect.cleandoc(self.function.__doc__ or self.name).partition("\n")
        return Operation(
            tool=tool,
            name=self.name,
            title=title.rstrip("."),
            description=inspect.cleandoc(self.function.__doc__ or ""),
            parameters=_parameters(self._arguments),
            effect=self.effect,
            tags=self.tags,
            time_limit_s=self.time_limit_s,
            aliases=self.aliases,
            from_context=self.from_context,
            secret_arguments=self.secret_arguments,
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
    aliases: tuple[str, ...] = (),
    from_context: Mapping[str, str] | None = None,
    secret_arguments: tuple[str, ...] = (),
    marks_effect: bool = False,
) -> Callable[[Callable[..., Any]], OperationDeclaration]:
    """Declare a function as an operation.

    `marks_effect` says that the function calls `run.begin_effect()` itself, at the right moment; otherwise the
    worker does so just before it runs a `verifiable` or `once` operation. `from_context` maps an argument to the
    field of the context that fills it when the caller leaves it out; such an argument needs a default or is
    required of the caller by the schema all the same.
    """

    def declare(function: Callable[..., Any]) -> OperationDeclaration:
        return OperationDeclaration(
            function,
            effect=effect,
            time_limit_s=time_limit_s,
            tags=tags,
            aliases=aliases,
            from_context=from_context or {},
            secret_arguments=secret_arguments,
            marks_effect=marks_effect,
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
    ) -> None:
        self.name = name
        self.open = open
        self.operations = {declaration.name: declaration for declaration in operations}

    def describe(self) -> list[Operation]:
        """The tool's part of the catalogue."""
        return [declaration.describe(self.name) for declaration in self.operations.values()]


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

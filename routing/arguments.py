"""Arguments against the operation's JSON Schema, before anything is accepted; the error names the field."""

from typing import Any

import jsonschema_rs

from toolswarm.errors import InvalidArguments
from toolswarm.messages import Operation


class Validators:
    """Compiled schemas, made once per operation and schema."""

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[Operation, jsonschema_rs.Draft202012Validator]] = {}

    def check(self, operation: Operation, arguments: dict[str, Any]) -> None:
        """Return when the arguments fit.

        Raises:
            InvalidArguments: `details` has the `field` and the `allowed` names when one is missing or extra.
        """
        known = self._compiled.get(operation.full_name)
        if known is None or known[0] is not operation:
            known = (operation, _compile(operation.parameters))
            self._compiled[operation.full_name] = known
        validator = known[1]
        if validator.is_valid(arguments):
            return
        raise _describe(operation, arguments, next(validator.iter_errors(arguments)))


def _describe(
    operation: Operation, arguments: dict[str, Any], error: jsonschema_rs.ValidationError
) -> InvalidArguments:
    name = operation.full_name
    properties: dict[str, Any] = operation.parameters.get("properties", {})
    known = ", ".join(properties) or "none"
    missing = [field for field in operation.parameters.get("required", []) if field not in arguments]
    if missing:
        return InvalidArguments(
            f"{name}: the argument {missing[0]!r} is missing (known: {known})", field=missing[0], operation=name
        )
    extra = [field for field in arguments if field not in properties]
    if extra:
        return InvalidArguments(
            f"{name}: there is no argument {extra[0][:80]!r} (known: {known})", field=extra[0][:80], operation=name
        )
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path).lstrip(".")
    return InvalidArguments(f"{name}: {field}: {error.message}", field=field, operation=name)


def _compile(parameters: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    # Masked: a wrong value may be long, or a secret in the wrong place, and is not repeated in the error.
    return jsonschema_rs.Draft202012Validator(parameters, mask="the value")

"""What may be remembered, for how long, and under which name: pure, the same in every process."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from cache.seal import Sealer
from store.configuration import Cache as Settings
from toolswarm.messages import Effect, Operation, Remember, ToolCall, canonical

_FORM = "1"
"""Of names and entries together: another one finds nothing of this one."""
_PLACE = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
MAX_TAG_BYTES = 512


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How one operation's answers are remembered."""

    ttl_s: float
    longest_ttl_s: float = 0.0
    stale_s: float = 0.0
    stale_if_error_s: float = 0.0
    negative_ttl_s: float = 0.0
    public: bool = False
    by_principal: bool = False
    defaults: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Argument -> what it is when it is left out: the same call, so the same name."""

    @property
    def kept_s(self) -> float:
        """How long an answer is kept after it is not fresh any more."""
        return max(self.stale_s, self.stale_if_error_s)

    def next_ttl_s(self, before_s: float, *, same: bool) -> float:
        """How long an answer is fresh that came back the same, or another: half as long again, or half as long."""
        if self.longest_ttl_s <= self.ttl_s:
            return self.ttl_s
        wanted = before_s * 1.5 if same else before_s / 2
        return min(self.longest_ttl_s, max(self.ttl_s, wanted))


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What stands for a call that may be answered from memory."""

    name: str
    """Of the entry."""
    flight: str
    """Of the run that answers all who ask at the same time; of one tenant each, for only they may wait for its call."""
    rules: Rules


class RuleBook:
    """The rules of each operation, worked out once."""

    def __init__(self, settings: Settings, sealer: Sealer) -> None:
        self._settings = settings
        self._sealer = sealer
        self._known: dict[str, tuple[Operation, Rules | None]] = {}

    def rules(self, operation: Operation) -> Rules | None:
        """How its answers are remembered; None when they are not."""
        name = operation.full_name
        known = self._known.get(name)
        if known is None or known[0] is not operation:
            known = self._known[name] = operation, rules_of(operation, self._settings)
        return known[1]

    def key(self, operation: Operation, call: ToolCall) -> Key | None:
        """What stands for the call; None when its answers are not remembered."""
        rules = self.rules(operation)
        if rules is None:
            return None
        if rules.public:
            scope: tuple[str, ...] = ("public",)
        elif rules.by_principal:
            scope = ("principal", call.tenant, call.principal)
        else:
            scope = ("tenant", call.tenant)
        context = call.context
        nearby = (context.repo, context.host, context.path, context.session)
        arguments = {**rules.defaults, **call.arguments} if rules.defaults else call.arguments
        name = self._sealer.name(
            canonical((_FORM, scope, operation.full_name, operation.version, arguments, nearby)),
        )
        flight = self._sealer.name(f"{name} {call.tenant}".encode()) if rules.public else name
        return Key(name=name, flight=flight, rules=rules)


def rules_of(operation: Operation, settings: Settings) -> Rules | None:
    """What the operation declares, and what the operator says instead; only what changes nothing is remembered."""
    said: Remember = operation.remember
    ttl_s = settings.ttl_s.get(operation.full_name, said.ttl_s)
    if operation.effect is not Effect.READ or operation.session_argument or ttl_s <= 0 or not settings.enabled:
        return None
    properties: dict[str, Any] = operation.parameters.get("properties", {})
    return Rules(
        ttl_s=ttl_s,
        longest_ttl_s=said.longest_ttl_s,
        stale_s=said.stale_s,
        stale_if_error_s=said.stale_if_error_s,
        negative_ttl_s=min(said.negative_ttl_s, ttl_s),
        public=operation.full_name in settings.public,
        by_principal=settings.sharing == "principal",
        defaults={name: schema["default"] for name, schema in properties.items() if "default" in schema},
    )


def filled(templates: Iterable[str], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags, with the values in their places; a list makes a tag for each, and what has no value makes none."""
    tags: dict[str, None] = {}
    for template in templates:
        for tag in _filled(template, values):
            if len(tag.encode()) <= MAX_TAG_BYTES:
                tags[tag] = None
    return tuple(tags)


def _filled(template: str, values: Mapping[str, Any]) -> Iterable[str]:
    place = _PLACE.search(template)
    if place is None:
        yield template
        return
    value: Any = values.get(place[1])
    several = cast("Iterable[Any]", value if isinstance(value, list | tuple) else (value,))
    for one in several:
        if isinstance(one, str | int) and one != "":
            yield from _filled(template[: place.start()] + str(one).replace("{", "") + template[place.end() :], values)

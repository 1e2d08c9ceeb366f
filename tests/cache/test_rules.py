"""Which calls are the same: by name, for nobody but the authorization context that the answer was made in."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.rules import RuleBook, Rules, filled, rules_of
from cache.seal import Sealer
from store.configuration import Cache as Settings
from tests.servers.memories import READ, call
from toolswarm.messages import Context, Effect, Operation, Remember, ToolCall

BOOK = RuleBook(Settings(), Sealer(b"a" * 32))
WORDS = st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(WORDS, VALUES, max_size=3)
CONTEXTS = st.builds(Context, repo=st.none() | WORDS, host=st.none() | WORDS, session=st.none() | WORDS)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    return msgspec.structs.replace(READ, name=draw(WORDS), version=draw(st.sampled_from(["1", "2"])))


@st.composite
def calls(draw: st.DrawFn) -> ToolCall:
    arguments = {f"a{name}": value for name, value in draw(ARGUMENTS).items()}
    return msgspec.structs.replace(call(draw(WORDS), draw(WORDS), **arguments), context=draw(CONTEXTS))


def name(operation: Operation, wanted: ToolCall, book: RuleBook = BOOK) -> str:
    key = book.key(operation, wanted)
    assert key is not None
    return key.name


def what_matters(operation: Operation, wanted: ToolCall) -> Any:
    context = wanted.context
    arguments = {"limit": 30, **wanted.arguments}
    return (
        *(operation.full_name, operation.version, wanted.tenant),
        msgspec.json.encode(arguments, order="deterministic"),
        *(context.repo, context.host, context.path, context.session),
    )


@given(operations(), calls(), operations(), calls())
def test_two_calls_have_one_name_exactly_when_all_that_matters_is_the_same(
    operation: Operation, one: ToolCall, other_operation: Operation, other: ToolCall
) -> None:
    same = what_matters(operation, one) == what_matters(other_operation, other)

    assert (name(operation, one) == name(other_operation, other)) == same


@given(calls(), WORDS)
def test_another_tenant_never_has_the_same_name(one: ToolCall, tenant: str) -> None:
    other = msgspec.structs.replace(one, tenant=tenant)

    assert (name(READ, one) == name(READ, other)) == (one.tenant == tenant)


@given(calls(), WORDS)
def test_where_principals_share_nothing_another_principal_never_has_the_same_name(one: ToolCall, who: str) -> None:
    book = RuleBook(Settings(sharing="principal"), Sealer(b"a" * 32))
    other = msgspec.structs.replace(one, principal=who)

    assert (name(READ, one, book) == name(READ, other, book)) == (one.principal == who)
    assert name(READ, one) == name(READ, other)


@given(calls(), st.binary(min_size=32, max_size=40))
def test_another_secret_makes_other_names(one: ToolCall, secret: bytes) -> None:
    book = RuleBook(Settings(), Sealer(secret))

    assert (name(READ, one, book) == name(READ, one)) == (secret == b"a" * 32)


def test_the_order_of_arguments_and_defaults_that_are_spelled_out_make_no_difference() -> None:
    assert name(READ, call(a=1, b=2)) == name(READ, call(b=2, a=1, limit=30))
    assert name(READ, call(a=1)) != name(READ, call(a=1, limit=31))
    assert name(READ, call(a=1)) != name(READ, call(a=True))


def test_the_purpose_and_the_urgency_of_a_call_make_no_difference() -> None:
    one = call(label="x")

    assert name(READ, one) == name(READ, msgspec.structs.replace(one, context=Context(purpose="curiosity"), id="other"))


def test_a_public_answer_is_shared_by_all_and_its_runs_by_one_tenant() -> None:
    book = RuleBook(Settings(public=(READ.full_name,)), Sealer(b"a" * 32))

    one, other = book.key(READ, call("acme")), book.key(READ, call("umbrella"))

    assert one is not None
    assert other is not None
    assert one.name == other.name != name(READ, call("acme"))
    assert len({one.flight, other.flight, one.name}) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"effect": Effect.IDEMPOTENT},
        {"effect": Effect.ONCE},
        {"remember": Remember()},
        {"session_argument": "session_id"},
    ],
)
def test_only_reads_that_say_so_are_remembered(changed: dict[str, Any]) -> None:
    assert rules_of(msgspec.structs.replace(READ, **changed), Settings()) is None


def test_the_operator_sets_or_ends_what_an_operation_declares() -> None:
    silent = msgspec.structs.replace(READ, remember=Remember())

    assert rules_of(silent, Settings(ttl_s={"memo.look": 5.0})) == Rules(ttl_s=5.0, defaults={"limit": 30})
    assert rules_of(READ, Settings(ttl_s={"memo.look": 0.0})) is None
    assert rules_of(READ, Settings(enabled=False)) is None


def test_an_answer_that_stays_the_same_is_fresh_for_longer_each_time() -> None:
    rules = Rules(ttl_s=10, longest_ttl_s=30)

    times = [10.0]
    for same in (True, True, True, False, False):
        times.append(rules.next_ttl_s(times[-1], same=same))

    assert times == [10, 15, 22.5, 30, 15, 10]
    assert Rules(ttl_s=10).next_ttl_s(10, same=True) == 10


def test_tags_take_their_values_from_the_arguments() -> None:
    values = {"repo": "acme/web", "number": 3, "hosts": ["a", "b"], "none": None, "odd": {"a": 1}, "sly": "{repo}"}

    assert filled(("all", "repo:{repo}", "{repo}#{number}"), values) == ("all", "repo:acme/web", "acme/web#3")
    assert filled(("host:{hosts}",), values) == ("host:a", "host:b")
    assert filled(("x:{none}", "x:{odd}", "x:{absent}"), values) == ()
    assert filled(("x:{sly}",), values) == ("x:repo}",)

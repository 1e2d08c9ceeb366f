"""A full server is believed, a silent one is tried a few times, and nothing outlasts the timeout."""

from toolswarm.errors import BrokerUnavailable, GatewayUnreachable, InvalidArguments, ToolswarmError, Unavailable
from toolswarm.patience import SUBMIT_BACKOFF_S, WAIT_SLICE_S, Patience


def delays(patience: Patience, error: ToolswarmError, times: int) -> list[float | None]:
    return [patience.delay_s(error, now=0.0) for _ in range(times)]


def test_a_silent_gateway_is_tried_three_times_in_all() -> None:
    found = delays(Patience(until=100.0), GatewayUnreachable("gone"), 3)

    assert [delay is not None for delay in found] == [True, True, False]
    assert len(SUBMIT_BACKOFF_S) + 1 == 3


def test_an_answer_in_between_starts_the_tries_anew() -> None:
    patience = Patience(until=100.0)
    delays(patience, GatewayUnreachable("gone"), 2)

    patience.answered()

    assert patience.delay_s(GatewayUnreachable("gone"), now=0.0) is not None


def test_a_full_server_is_asked_again_until_the_timeout() -> None:
    patience = Patience(until=100.0)

    assert delays(patience, Unavailable("full", retry_after_s=3.0), 50) == [3.0] * 50
    assert patience.delay_s(Unavailable("full", retry_after_s=3.0), now=98.0) is None


def test_a_dead_broker_is_not_waited_for_until_the_timeout() -> None:
    found = delays(Patience(until=100.0), BrokerUnavailable("down", retry_after_s=1.0), 3)

    assert found == [1.0, 1.0, None]


def test_a_refusal_is_told_at_once() -> None:
    assert Patience(until=100.0).delay_s(InvalidArguments("no"), now=0.0) is None


def test_one_question_waits_for_a_slice_at_most() -> None:
    patience = Patience(until=100.0)

    assert patience.slice_s(0.0) == WAIT_SLICE_S
    assert patience.slice_s(95.0) == 5.0
    assert patience.slice_s(101.0) == 0.0

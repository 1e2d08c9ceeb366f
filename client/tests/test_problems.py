"""An error on the wire becomes the class of its code."""

import pytest

from toolswarm.errors import (
    BrokerUnavailable,
    CallFailed,
    InvalidArguments,
    OperationFailed,
    ToolswarmError,
    Unavailable,
    UnknownOperation,
)
from toolswarm.messages import ErrorInfo
from toolswarm.problems import ERROR_CLASSES, error_from_answer, error_from_info


def test_every_code_of_a_refusal_has_its_class() -> None:
    for code, kind in ERROR_CLASSES.items():
        error = error_from_info(ErrorInfo(code=code, message="m", details={"message": 1, "self": 2}))

        assert type(error) is kind
        assert error.details == {"message": 1, "self": 2}


@pytest.mark.parametrize("kind", [UnknownOperation, InvalidArguments, BrokerUnavailable])
def test_the_table_knows_the_leaves_of_the_tree(kind: type[ToolswarmError]) -> None:
    assert ERROR_CLASSES[kind.code] is kind


@pytest.mark.parametrize("code", [CallFailed.code, OperationFailed.code, "made_up"])
def test_an_unknown_code_is_kept(code: str) -> None:
    error = error_from_info(ErrorInfo(code=code, message="m", details={"a": 1}))

    assert type(error) is ToolswarmError
    assert error.details == {"a": 1, "code": code, "retryable": False}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_that_finds_no_gateway_makes_it_unavailable(status: int) -> None:
    error = error_from_answer(status, b"<html>", {"content-type": "text/html", "retry-after": "2"})

    assert isinstance(error, Unavailable)
    assert error.details == {"http_status": status, "retry_after_s": 2.0}


@pytest.mark.parametrize("body", [b"[]", b"{}", b"{", b"\xff"])
def test_json_that_is_no_problem_is_told_by_its_status(body: bytes) -> None:
    error = error_from_answer(400, body, {"content-type": "application/json"})

    assert type(error) is ToolswarmError
    assert error.details == {"http_status": 400}


def test_a_retry_after_with_a_date_is_ignored() -> None:
    error = error_from_answer(503, b"", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})

    assert "retry_after_s" not in error.details

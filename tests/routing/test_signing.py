"""What a signature protects: every field of a task, one by one."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from routing.signing import Envelope, SignatureRefused, Signer, Verifier, check_call
from toolswarm.messages import ToolCall

KEY = Ed25519PrivateKey.generate()
CALL = ToolCall(id="01a2131d-4fc3-7160-bb22-60a12ef4c5fa", operation="desktop.read_file", arguments={"path": "a"})


def envelope() -> Envelope:
    return Signer(KEY).sign(CALL, "tool.desktop", 1000.0)


def verify(task: Envelope, *, call_id: str = CALL.id, operation: str = CALL.operation, now: float = 0.0) -> Envelope:
    header = {name: getattr(task, name) for name in task.__struct_fields__}
    verifier = Verifier(KEY.public_key())
    return verifier.verify(header, call_id=call_id, operation=operation, queues=("tool.desktop",), now=now)


def test_a_genuine_task_is_believed() -> None:
    task = envelope()

    believed = verify(task)

    check_call(believed, CALL, CALL.operation)


def test_a_task_turned_into_another_is_refused() -> None:
    with pytest.raises(SignatureRefused):
        verify(envelope(), operation="desktop.delete")
    with pytest.raises(SignatureRefused):
        verify(envelope(), call_id="01a2131d-4fc3-7160-bb22-000000000000")


@pytest.mark.parametrize("change", [{"tenant": "b"}, {"principal": "b"}, {"arguments": "0"}, {"expires": 9e9}])
def test_a_changed_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SignatureRefused):
        verify(replace(envelope(), **change))


def test_a_task_moved_to_another_queue_is_refused() -> None:
    moved = Signer(KEY).sign(CALL, "tool.github", 1000.0)

    with pytest.raises(SignatureRefused, match="queue"):
        verify(moved)


def test_an_expired_task_and_a_foreign_key_are_refused() -> None:
    foreign = Signer(Ed25519PrivateKey.generate()).sign(CALL, "tool.desktop", 1000.0)

    with pytest.raises(SignatureRefused, match="expired"):
        verify(envelope(), now=2000.0)
    with pytest.raises(SignatureRefused, match="trusts"):
        verify(foreign)


def test_a_record_whose_arguments_were_changed_in_the_ledger_is_refused() -> None:
    believed = verify(envelope())

    with pytest.raises(SignatureRefused):
        check_call(believed, replace(CALL, arguments={"path": "/etc/shadow"}), CALL.operation)


def test_no_header_at_all_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="well-formed"):
        Verifier(KEY.public_key()).verify(None, call_id="x", operation="y", queues=("z",), now=0.0)

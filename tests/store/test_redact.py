"""What people may see of a call's arguments."""

from store.dead import redact


def test_what_is_declared_secret_or_named_like_it_is_not_shown() -> None:
    shown = redact({"path": "a", "content": "x", "env": {"API_TOKEN": "t", "HOME": "/"}}, secret=("content",))

    assert shown == {"path": "a", "content": "(not shown)", "env": {"API_TOKEN": "(not shown)", "HOME": "/"}}


def test_a_long_text_is_cut() -> None:
    shown = redact({"text": "x" * 10_000})

    assert shown["text"].endswith("… (10000 characters)")
    assert len(shown["text"]) < 600

"""Arguments that many operations of `github` take, and fields that many results have."""

from typing import Annotated, Any, cast

from msgspec import Meta

from tasks.text import without_hidden

Repo = Annotated[
    str,
    Meta(
        description="Repository: owner/name, its URL, or the name alone for the default owner's.",
        examples=["acme/weather"],
    ),
]
Ref = Annotated[
    str | None,
    Meta(description="Branch, tag or commit; none: the default branch.", examples=["main"]),
]
Branch = Annotated[
    str | None,
    Meta(description="Branch to write to; none: the default branch.", examples=["main"]),
]
Message = Annotated[
    str, Meta(description="Commit message.", examples=["Fix the forecast"], min_length=1, max_length=10_000)
]
Full = Annotated[bool, Meta(description="Whether GitHub's whole answer is wanted, as `full`; it may be long.")]


def visible(value: object) -> Any:
    """A plain answer of GitHub's with the hidden characters of all its texts spelled out."""
    if isinstance(value, str):
        return without_hidden(value)
    if isinstance(value, list):
        return [visible(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {without_hidden(str(key)): visible(item) for key, item in cast("dict[object, object]", value).items()}
    return value

"""Text of strangers as results show it: nothing is taken out, hidden characters are spelled out, its end may be cut.

Whatever somebody else could write (titles, texts, comments, labels, descriptions) goes through here, and the result
that holds it says `untrusted`; whole answers of GitHub's go through `arguments.visible`. HTML comments, entities and
instructions stay as they were written: they can be seen, and whoever reads them has been told not to obey.
"""

import msgspec

from tasks.text import without_hidden

EXCERPT_LENGTH = 500
"""Characters of a text in lists."""
LONGEST_TEXT = 70_000
"""Characters of a text on its own: GitHub's texts end at 65,536; hidden characters that are spelled out take more."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A text, or its beginning."""

    text: str
    truncated: bool


def foreign(text: str | None) -> str:
    """The whole text with hidden characters spelled out; empty for none."""
    return without_hidden(text or "")


def beginning(text: str | None, longest: int) -> Shown:
    """The text, cut after so many characters; what is cut away is not looked at."""
    whole = text or ""
    return Shown(text=without_hidden(whole[:longest]), truncated=len(whole) > longest)

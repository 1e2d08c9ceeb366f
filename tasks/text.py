"""Bytes and text from outside, made safe to show and to put into JSON.

Hidden characters are those that Unicode calls default-ignorable (zero-width, bidirectional, tag characters, fillers,
variation selectors), controls, and halves of surrogate pairs. They are never dropped: they are spelled out, so that
people see what a model would read. What emoji and scripts with joined letters need is left as it is.
"""

import base64
import re
import unicodedata

_HIDDEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff"
)
_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_RUN = re.compile(f"[{_HIDDEN}]+|(?:\r(?!\n)|[{_CONTROLS}])+")
_LONGEST_RUN = 16
"""More hidden characters in a row than this are counted, not spelled: the text would grow eightfold."""
_JOINERS = ("\u200c", "\u200d")
_EMOJI_JOINERS = ("\u200d", "\ufe0f\u200d")
_STYLES = ("\ufe0e", "\ufe0f")


def text_or_base64(raw: bytes) -> tuple[str, str]:
    """The content and the name of its encoding: `utf-8` when it is that exactly, else `base64`; never guessed."""
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii"), "base64"


def printable(raw: bytes) -> str:
    """Output of a program: control sequences, lone carriage returns and bytes that are no UTF-8 are spelled out."""
    return _RUN.sub(_escaped, raw.decode("utf-8", "backslashreplace"))


def without_hidden(text: str) -> str:
    """Text of strangers, with the characters that people do not see and models read spelled out: `[U+202E]`."""
    return _RUN.sub(_named, text)


def has_hidden(text: str) -> bool:
    """Whether `without_hidden` would change it."""
    return without_hidden(text) != text


def has_controls(text: str) -> bool:
    """Whether there is any control character or half of a surrogate pair in it."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _named(match: re.Match[str]) -> str:
    run = match.group()
    if _is_needed(match):
        return run
    if len(run) > _LONGEST_RUN:
        return f"[{len(run)} hidden characters from U+{ord(run[0]):04X} to U+{ord(run[-1]):04X}]"
    return "[" + " ".join(f"U+{ord(character):04X}" for character in run) + "]"


def _escaped(match: re.Match[str]) -> str:
    if _is_needed(match):
        return match.group()
    return "".join(_escape(ord(character)) for character in match.group())


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_needed(match: re.Match[str]) -> bool:
    """Whether the run is what makes one emoji, or one shape of a letter, out of the visible ones around it."""
    run = match.group()
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    if not before:
        return False
    if run in _STYLES:
        return _is_emoji(before) or after == "\u20e3" or unicodedata.category(before)[0] in "SP"
    if run in _EMOJI_JOINERS and _is_emoji(before) and _is_emoji(after):
        return True
    if run in _JOINERS:
        return _joins(before) and _joins(after)
    return len(run) == 1 and "\U000e0100" <= run <= "\U000e01ef" and _is_ideograph(before)


def _is_emoji(character: str) -> bool:
    return character != "" and unicodedata.category(character) in ("So", "Sk") and character > "\u00ff"


def _joins(character: str) -> bool:
    """Arabic, Syriac, and the scripts of India and around it."""
    return "\u0600" <= character <= "\u109f" and unicodedata.category(character)[0] in "LM"


def _is_ideograph(character: str) -> bool:
    return "\u3400" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003ffff"

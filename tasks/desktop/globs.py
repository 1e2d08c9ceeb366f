"""File name patterns: what a glob means here, whoever looks at the files."""

import re

from toolswarm.errors import OperationFailed

LONGEST_CHARACTERS = 1000
_RIPGREP_AGREES = re.compile(r"[A-Za-z0-9_.-]*(?:\*[A-Za-z0-9_.-]+)*\*?(?:\{[A-Za-z0-9_.-]+(?:,[A-Za-z0-9_.-]+)*\})?")
_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|\{[^{}]*\}|.", re.DOTALL)


def translated(glob: str) -> str:
    """The regular expression (Python's) that a whole name or path must match.

    `*` and `?` stand for anything but a slash, `**` for anything, `**/` for any folders or none, `[ab]` and `[!ab]`
    for one character, `{a,b}` for either; all else for itself.

    Raises:
        OperationFailed: `invalid_glob`.
    """
    expression = "".join(_translated_token(token) for token in _TOKEN.findall(glob))
    try:
        re.compile(expression)
    except re.error as error:
        raise OperationFailed(
            f"glob has a range that is none ({error}); write it as in `*.py`, `src/**/*.py` or `*.{{js,ts}}`",
            code="invalid_glob",
            before_effect=True,
        ) from error
    return expression


def for_ripgrep(glob: str | None) -> str | None:
    """The glob when ripgrep, given it, looks at least at all files that it means here; else None."""
    return glob if glob and _RIPGREP_AGREES.fullmatch(glob) else None


def _translated_token(token: str) -> str:
    simple = {"**/": "(?s:(?:.*/)?)", "**": "(?s:.*)", "*": "[^/]*", "?": "[^/]"}.get(token)
    if simple is not None:
        return simple
    if len(token) > 1 and token[0] == "[":
        inside = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        negated = inside.startswith("!")
        inside = inside[1:] if negated else inside
        inside = "\\" + inside if inside.startswith(("]", "^")) else inside
        return f"(?!/)[^{inside}]" if negated else f"(?!/)[{inside}]"
    if len(token) > 1 and token[0] == "{":
        return "(?:" + "|".join(translated(choice) for choice in token[1:-1].split(",")) + ")"
    return re.escape(token)

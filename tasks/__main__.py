"""`python -m tasks pages`: write docs/tools/*.md, docs/errors.md and docs/configuration.md from the source."""

import sys
from pathlib import Path

from tasks.error_page import error_page
from tasks.pages import write_pages
from tasks.registry import TOOLS
from tasks.settings_page import settings_page


def main(arguments: list[str]) -> int:
    """Write the pages."""
    if arguments != ["pages"]:
        sys.stderr.write("usage: python -m tasks pages\n")
        return 2
    docs = Path("docs")
    written = write_pages(docs / "tools", dict(TOOLS))
    (docs / "errors.md").write_text(error_page(), encoding="utf-8")
    (docs / "configuration.md").write_text(settings_page(), encoding="utf-8")
    for file in (*written, docs / "errors.md", docs / "configuration.md"):
        sys.stdout.write(f"{file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m tasks pages`: write docs/tools/*.md from the declarations of the operations."""

import sys
from pathlib import Path

from tasks.pages import write_pages
from tasks.registry import TOOLS


def main(arguments: list[str]) -> int:
    """Write the pages."""
    if arguments != ["pages"]:
        sys.stderr.write("usage: python -m tasks pages\n")
        return 2
    for file in write_pages(Path("docs/tools"), dict(TOOLS)):
        sys.stdout.write(f"{file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

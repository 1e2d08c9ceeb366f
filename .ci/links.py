"""Every relative link in a Markdown file leads to a file that is there, and to a heading that it has."""

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(file: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", file.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dead_links(file: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found: list[str] = []
    for target in LINK.findall(FENCE.sub("", file.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        page = file.parent / path if path else file
        if not page.exists():
            found.append(f"{file}: {target}: there is no such file")
        elif anchor and page.suffix == ".md" and anchor not in anchors(page):
            found.append(f"{file}: {target}: there is no such heading")
    return found


def main() -> int:
    """Check all Markdown files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], capture_output=True, text=True)
    files = [Path(name) for name in listed.stdout.split()] or [
        file for file in Path().rglob("*.md") if ".venv" not in file.parts
    ]
    dead = [one for file in files for one in dead_links(file)]
    sys.stdout.write("".join(f"{one}\n" for one in dead))
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())

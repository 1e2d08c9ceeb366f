"""Says which Python files are longer than 500 lines; exits with 1 when there is one."""

import subprocess
import sys
from pathlib import Path

LIMIT_LINES = 500


def main() -> int:
    """Look at every Python file that git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = [Path(name) for name in sorted(filter(None, listed.split("\0"))) if Path(name).exists()]
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    too_long = {file: length for file, length in lengths.items() if length > LIMIT_LINES}
    for file, length in too_long.items():
        print(f"{file}: {length} lines; the limit is {LIMIT_LINES}")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())

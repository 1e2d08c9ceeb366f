"""Makes the broker's users: `users.acl` of the template beside this file, and a file with each user's password.

    python3 deploy/valkey/make_users.py --out /srv/toolswarm/broker --tool desktop --tool github --tool droplet

Only the SHA-256 of a password stands in `users.acl`. A password that is there already is kept, so the command may be
repeated, e.g. for one more tool; to change one, remove its file. Then tell the broker: `ACL LOAD`, or restart it.
"""

import argparse
import hashlib
import itertools
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

TEMPLATE = Path(__file__).with_name("users.acl.in")
TOOLS = ("desktop", "github", "droplet")
CHAINS = ("droplet,desktop",)
"""The default of `routing.fallbacks`."""
NO_PASSWORD = ("default",)
INTAKE = "intake"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SEPARATED = "[^-a-zA-Z0-9_.]*"
"""What follows a queue's name in keys of its lists, and in no name of another tool that begins like it."""


def main(arguments: Sequence[str]) -> int:
    """Write the files; prints names only."""
    options = _options(arguments)
    tools, chains = options.tool or TOOLS, options.chain or CHAINS
    unfit = [name for name in (*tools, *",".join(chains).split(",")) if not _NAME.fullmatch(name)]
    if unfit:
        sys.stderr.write(f"make_users: {unfit[0]!r} is not the name of a tool\n")
        return 2
    out = Path(options.out)
    passwords = out / "passwords"
    passwords.mkdir(mode=0o700, parents=True, exist_ok=True)
    blocks = list(render(TEMPLATE.read_text(encoding="utf-8"), tools=tools, falls_to=falls_to(chains)))
    lines = [f"user {name} {_login(name, passwords)} {' '.join(rules)}\n" for name, rules in blocks]
    acl = out / "users.acl"
    new = acl.with_suffix(".new")
    new.write_text("".join(lines), encoding="utf-8")
    new.replace(acl)
    print(f"{acl}: {', '.join(name for name, _ in blocks)}; their passwords are in {passwords}")
    return 0


def falls_to(chains: Iterable[str]) -> dict[str, list[str]]:
    """Tool -> the tools that its workers hand calls on to: each member of a chain hands on to the next."""
    found: dict[str, list[str]] = {}
    for chain in chains:
        members = chain.split(",")
        for tool, after in itertools.pairwise(members):
            found.setdefault(tool, []).append(after)
    return found


def render(
    template: str, *, tools: Sequence[str], falls_to: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, list[str]]]:
    """Each user with its rules, in the template's order."""
    groups: dict[str, list[str]] = {}
    for kind, name, lines in _blocks(template):
        if kind == "rules":
            groups[name] = lines
        elif "{tool}" in name:
            for tool in tools:
                yield name.replace("{tool}", tool), list(_expand(lines, groups, tool, falls_to.get(tool, ())))
        else:
            yield name, list(_expand(lines, groups, name, ()))


def _expand(
    lines: Iterable[str], groups: Mapping[str, Sequence[str]], role: str, following: Sequence[str]
) -> Iterator[str]:
    queue = role if role == INTAKE else f"tool.{role}"
    for line in lines:
        if line.startswith("use "):
            _, group, *only = line.split()
            if not only or only[-1] == role:
                yield from _expand(groups[group], groups, role, following)
        elif "{next_queue}" in line:
            yield from (_with_queue(line, "{next_queue}", f"tool.{after}") for after in following)
        else:
            yield _with_queue(line.replace("{tool}", role), "{queue}", queue)


def _with_queue(line: str, place: str, queue: str) -> str:
    """The line with each key that names the place twice: the queue, and what continues it with a separator."""
    words = (
        f"{before}{queue} {before}{queue}{_SEPARATED}{after}" if found else before
        for before, found, after in (word.partition(place) for word in line.split(" "))
    )
    return " ".join(words)


def _blocks(template: str) -> Iterator[tuple[str, str, list[str]]]:
    kind, name, lines = "", "", list[str]()
    for raw in template.splitlines():
        if not raw.strip() or raw.startswith("#"):
            continue
        if raw.startswith(" "):
            lines.append(raw.strip())
            continue
        if kind:
            yield kind, name, lines
        (kind, name), lines = raw.split(), []
    yield kind, name, lines


def _login(user: str, passwords: Path) -> str:
    if user in NO_PASSWORD:
        return "off"
    file = passwords / user
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        password = file.read_text(encoding="utf-8").strip()
    else:
        password = secrets.token_hex(32)
        with os.fdopen(descriptor, "w") as new:
            new.write(password)
    return f"on #{hashlib.sha256(password.encode()).hexdigest()}"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the broker's users and their passwords.")
    parser.add_argument("--out", required=True, help="folder for users.acl and passwords/")
    parser.add_argument("--tool", action="append", help=f"a tool that has workers; default: {', '.join(TOOLS)}")
    parser.add_argument(
        "--chain", action="append", help=f"a fallback chain of tools, in order; default: {', '.join(CHAINS)}"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m local`: the whole system on this machine, started, stopped and looked at."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from local.demo import demo
from local.down import down
from local.logs import logs
from local.screen import make_screen
from local.state_folder import StateFolder
from local.status import status
from local.up import Setup, up, up_detached, wait_until_ready
from store.configuration import load
from toolswarm.errors import ToolswarmError


def main(arguments: Sequence[str]) -> int:
    """Run one command; what it returns is the exit status."""
    options = _parser().parse_args(arguments)
    try:
        configuration = load(os.environ)
        setup = Setup(
            configuration=configuration, environ=os.environ, folder=StateFolder(Path(configuration.local.state))
        )
        return _run(options, setup)
    except ToolswarmError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `… | head` has read enough
        return 0


def _run(options: argparse.Namespace, setup: Setup) -> int:
    match options.command:
        case "up" if options.wait and setup.folder.running_pid():
            return wait_until_ready(setup)
        case "up" if options.detach:
            return up_detached(setup)
        case "up":
            return up(setup)
        case "supervise":
            return up(setup, demo=options.demo)
        case "demo-calls":
            from local.demo_calls import run_calls  # here, because nothing else needs the client and its tables

            return run_calls(setup, options.url)
        case "demo":
            return demo(setup, once=options.once)
        case "down":
            return down(setup.folder, make_screen(os.environ), now=options.now)
        case "status":
            return status(setup.folder, as_json=options.json)
        case _:
            return logs(setup.folder, service=options.service, follow=options.follow)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("up", help="start everything; Ctrl-C drains and stops")
    start.add_argument("--detach", action="store_true", help="return when it is ready, and let it run")
    start.add_argument("--wait", action="store_true", help="when it runs already, return only when it is ready")
    show = commands.add_parser("demo", help="start everything and run a dozen real calls of all kinds")
    show.add_argument("--once", action="store_true", help="stop again after the calls")
    supervise = commands.add_parser("supervise")  # what `up --detach` leaves running
    supervise.add_argument("--demo", action="store_true")
    calls = commands.add_parser("demo-calls")  # what `demo` runs beside the supervisor
    calls.add_argument("url")
    stop = commands.add_parser("down", help="let running calls finish, then stop everything")
    stop.add_argument("--now", action="store_true", help="stop everything at once, cutting off running calls")
    look = commands.add_parser("status", help="show each service; exits with 3 when nothing runs")
    look.add_argument("--json", action="store_true", help="as one JSON document")
    read = commands.add_parser("logs", help="show what the services said")
    read.add_argument("service", nargs="?", help="only this one")
    read.add_argument("-f", "--follow", action="store_true", help="and what they go on to say")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

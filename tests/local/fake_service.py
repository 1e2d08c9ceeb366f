"""A small service that can be told to misbehave, to show what the supervisor does about it.

It writes `EVENT NAME PID` lines to a journal, says that it is ready by making a file, and obeys these files in its
folder: `NAME.hang` (it lives on but gives no more heartbeats).
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType


def main() -> int:
    options = _options()
    folder = Path(options.folder)
    name = str(options.name)

    def journal(event: str) -> None:
        with (folder / "journal").open("a") as file:
            file.write(f"{event} {name} {os.getpid()}\n")

    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        journal("told")
        stopping = not options.ignore_term

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN if options.ignore_term else signal.SIG_DFL)
    journal("started")
    print(f"{name} says hello", flush=True)
    if options.grandchild:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", code])
        (folder / f"{name}.grandchild").write_text(str(child.pid))
    if options.crash or (options.crash_once and not (folder / f"{name}.crashed").exists()):
        (folder / f"{name}.crashed").touch()
        print("last words: it does not work", flush=True)
        return 3
    until = time.monotonic() + options.ready_after
    while not stopping:
        if time.monotonic() >= until:
            (folder / f"{name}.{os.getpid()}.ready").touch()
            if options.broker and not (folder / f"{name}.hang").exists():
                _beat(options.broker, name)
        time.sleep(0.02)
    time.sleep(options.drain)
    journal("ended")
    return 0


def _beat(broker: str, name: str) -> None:
    now = time.time()
    words = [b"HSET", b"ts:worker:%s" % name.encode(), b"seen_at", b"%f" % now, b"polled_at", b"%f" % now]
    command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(broker)
            link.sendall(command)
            link.recv(64)
    except (FileNotFoundError, ConnectionError):
        return  # the broker is not up yet


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--broker", default="")
    parser.add_argument("--ready-after", type=float, default=0.0)
    parser.add_argument("--drain", type=float, default=0.0)
    parser.add_argument("--crash", action="store_true")
    parser.add_argument("--crash-once", action="store_true")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--grandchild", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

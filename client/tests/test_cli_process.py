"""The command as a process of its own: signals, pipes, and what it imports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from client.tests.scripted_gateway import CALL_ID, ScriptedGateway, running, succeeded

SUBMIT = "POST /v1/calls"
CALL = f"GET /v1/calls/{CALL_ID}"
PROGRAM = "import sys; from toolswarm.cli.main import main; sys.exit(main())"


def start(gateway: ScriptedGateway, *words: str) -> "subprocess.Popen[bytes]":
    # Unbuffered, Python itself takes a write that the reader broke off for a whole one, and no error is raised.
    environ = os.environ | {"TOOLSWARM_URL": gateway.url, "TOOLSWARM_API_KEY": "the-key", "PYTHONUNBUFFERED": ""}
    argv = [sys.executable, "-c", PROGRAM, *words]
    return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_ctrl_c_exits_with_130_and_says_that_the_call_goes_on(gateway: ScriptedGateway) -> None:
    gateway.answers(SUBMIT, running())
    gateway.answers(CALL, running())

    process = start(gateway, "call", "x")
    gateway.wait_until_asked(CALL)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)

    assert (process.returncode, out) == (130, b"")
    assert CALL_ID.encode() in err
    assert b"Traceback" not in err


def test_a_reader_that_goes_away_causes_no_traceback(gateway: ScriptedGateway) -> None:
    gateway.answers(SUBMIT, succeeded({"content": "x" * 1_000_000}))

    process = start(gateway, "call", "x")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()

    assert process.wait(10) == 141
    assert err == b""


def test_a_call_imports_only_what_it_needs(gateway: ScriptedGateway, tmp_path: Path) -> None:
    gateway.answers(SUBMIT, succeeded(1))
    program = (
        "import sys, toolswarm; first = set(sys.modules)\n"
        "from toolswarm.cli.main import main; main(['call', 'x', '--url', sys.argv[1]])\n"
        "heavy = {'httpx', 'celery', 'kombu', 'redis', 'rich', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), sorted({'msgspec', 'urllib3', 'cyclopts'} & first))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, gateway.url], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout.splitlines() == ["1", "[] []"]

"""`toolswarm call … --follow` on a real gateway with a real worker."""

import json
import subprocess
import sys
from pathlib import Path

from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, Stack

COMMAND = "import sys; from toolswarm.cli.main import main; sys.exit(main(sys.argv[1:]))"


def test_what_an_operation_says_comes_while_it_runs(stack: Stack, tmp_path: Path) -> None:
    stack.start_worker("trial", "w1")
    url = start_gateway(stack)

    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, "call", "trial.chatty", "lines:=20", "--follow"],
        env={"TOOLSWARM_URL": url, "TOOLSWARM_API_KEY": API_KEY},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    said = [json.loads(line)["line"] for line in ran.stderr.splitlines()]

    assert (ran.returncode, ran.stdout) == (0, "20\n")
    assert said == sorted(said)
    assert said[-1] == 19
    assert len(said) > 5  # the first ones may have been said before anybody listened

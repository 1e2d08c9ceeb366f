"""`completion`: the script that teaches a shell the commands and flags."""

import sys
from typing import Literal

from toolswarm.cli.exits import OK
from toolswarm.cli.main import build_app


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion script of a shell, e.g. for `toolswarm completion bash > FILE`.

    Args:
        shell: The shell.
    """
    sys.stdout.write(build_app().generate_completion(shell=shell))
    return OK

"""A tool whose worker can be made connected but silent: on SIGUSR2 its main thread stops for ever, and no other."""

import os
import signal
import threading
from types import FrameType

from store.configuration import Configuration
from tasks.operation import Run, Tool, operation
from toolswarm.messages import Effect


def stop_for_ever(_number: int, _frame: FrameType | None) -> None:
    """Runs on the main thread, where Celery asks for tasks; heartbeats and calls have threads of their own."""
    threading.Event().wait()


def open_tool(_configuration: Configuration) -> None:
    signal.signal(signal.SIGUSR2, stop_for_ever)


@operation(effect=Effect.READ)
async def pid(resources: None, run: Run) -> int:
    """The process that runs the call."""
    return os.getpid()


TOOL = Tool(name="stuck", open=open_tool, operations=(pid,))

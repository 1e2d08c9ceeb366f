"""`python -m tests.servers.askers FOLDER NAME CALLS OPERATION ARGUMENTS`: a front that is asked the same many times.

It says that it is ready (`NAME.ready`), waits for `go`, submits all calls at once, and prints what came of them.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from routing.front import Caller, Front
from store.configuration import load
from toolswarm.errors import ToolswarmError
from toolswarm.messages import SubmitBody, ToolResult

ME = Caller()


async def ask(front: Front, body: SubmitBody) -> tuple[ToolResult, float]:
    began_at = time.monotonic()
    accepted = await front.submit(body, ME)
    result = accepted if accepted.status.terminal else await front.result(accepted.id, ME, 30)
    return result, time.monotonic() - began_at


async def main(folder: Path, name: str, calls: int, body: SubmitBody) -> dict[str, Any]:
    front = await Front.open(load(os.environ))
    await front.operations()
    (folder / f"{name}.ready").touch()
    while not (folder / "go").exists():
        await asyncio.sleep(0.005)
    answers = await asyncio.gather(*(ask(front, body) for _ in range(calls)), return_exceptions=True)
    await front.close()
    good = [answer for answer in answers if not isinstance(answer, BaseException)]
    return {
        "errors": Counter(error.code for error in answers if isinstance(error, ToolswarmError)),
        "outcomes": Counter(f"{result.status} {result.value}" for result, _ in good),
        "ids": sorted({result.id for result, _ in good}),
        "took_s": sorted(took_s for _, took_s in good),
    }


if __name__ == "__main__":
    wanted = SubmitBody(operation=sys.argv[4], arguments=json.loads(sys.argv[5]))
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), wanted))))

"""Everything at once: calls of every effect, in this process and over HTTP, while workers, beats, the gateway, the
broker and the way to it are killed, frozen, cut, delayed and filled.

The seed is printed; `CHAOS_SEED`, `CHAOS_SECONDS` and `CHAOS_CALLERS` repeat or change a run (`make soak`), and
`CHAOS_JOURNALS` names a folder that keeps what was written down.
"""

import os

import pytest

from tests.chaos.swarm import BEATS, WORKERS
from tests.chaos.trial import Setup, trial
from tests.servers.stack import Stack

SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", "20260731"))
CALLERS = int(os.environ.get("CHAOS_CALLERS", "40"))


@pytest.mark.timeout(SECONDS + 180)
async def test_no_call_is_lost_none_repeated_and_every_end_is_told_under_mixed_faults(stack: Stack) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g} CHAOS_CALLERS={CALLERS}")
    setup = Setup(callers=CALLERS, over_http=2, workers=WORKERS, beats=BEATS, slots=16, relayed=WORKERS[2:], seed=SEED)

    async with trial(stack, setup) as mixed:
        mixed.load.call_meanwhile("poison")
        await mixed.faults.disturb(SECONDS)

    verdict = mixed.verdict
    print(verdict)
    print(verdict.describe_recoveries())
    print("\n".join(verdict.failed_safe))
    assert verdict.broken == []
    assert len(verdict.failed_safe) <= verdict.accepted / 1000, "\n".join(verdict.failed_safe)
    assert verdict.states["unknown"] < verdict.accepted / 20

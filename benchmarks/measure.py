"""What a measurement is made of: the CPU and the memory of processes, and the figures of a sample."""

import contextlib
import math
import time
from collections.abc import Iterable, Sequence

import psutil

_PROCESS_CLOCK = 2
"""CPUCLOCK_SCHED of the kernel: the clock of a whole process, threads that have ended included."""


class BenchmarkFailed(Exception):
    """A contender did not start, did not answer or answered wrongly; the message has the end of its log."""


def process_cpu_s(pid: int) -> float:
    """User and system CPU that one process has used, all its threads together.

    The clock of the process has nanoseconds; /proc/PID/stat would count in ticks of 10 ms, which is the cost of
    a hundred calls.
    """
    return time.clock_gettime((~pid << 3) | _PROCESS_CLOCK)


def tree_cpu_s(pid: int) -> float:
    """CPU of a process and of all its living descendants."""
    return sum(process_cpu_s(process.pid) for process in family(pid))


def family(pid: int) -> list[psutil.Process]:
    """The process and its living descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def pss_bytes(processes: Iterable[psutil.Process]) -> int:
    """Memory of the processes with each shared page counted once between them (proportional set size)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended since it was listed: it has no memory any more
            total += int(process.memory_full_info().pss)
    return total


def percentile(sample: Sequence[float], percent: float) -> float:
    """The smallest value that is at least as large as `percent` of the sample (nearest rank)."""
    if not sample:
        raise ValueError("an empty sample has no percentile")
    ordered = sorted(sample)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

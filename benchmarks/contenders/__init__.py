"""The contenders by name. A name is a family, or a family with a variant: `huey`, `celery/threads-8/batch`."""

import importlib
from typing import cast

from benchmarks.contenders.contract import Contender

FAMILIES = {
    "celery": "benchmarks.contenders.celery_raw",
    "celery-default": "benchmarks.contenders.celery_raw",
    "dramatiq": "benchmarks.contenders.dramatiq_",
    "taskiq": "benchmarks.contenders.taskiq_",
    "huey": "benchmarks.contenders.huey_",
    "ours": "benchmarks.contenders.ours",
}
CELERY_FINALISTS = ("celery/prefork-4/poll/redis", "celery/prefork-2/poll/redis", "celery/solo-1/poll/redis")
"""The fastest of all candidates; which of them wins depends on how many cores are free, so each run decides anew."""
COMPARED = ("celery-default", *CELERY_FINALISTS, "dramatiq", "taskiq", "huey", "ours", "ours/64")
"""What `make bench` compares: the others in the best setting that was found, ours as shipped and in its best."""


def is_celery(name: str) -> bool:
    """Whether the contender is plain Celery: the fastest of these in a run is what all are divided by."""
    return name.split("/", 1)[0] in ("celery", "celery-default")


def contender(name: str) -> Contender:
    """The contender of this name.

    Raises:
        ValueError: there is no such contender; the message has the known ones.
    """
    family = name.split("/", 1)[0]
    if family not in FAMILIES:
        raise ValueError(f"no contender {name!r}; known: {', '.join(FAMILIES)}")
    module = importlib.import_module(FAMILIES[family])
    return cast(Contender, module.contender(name))

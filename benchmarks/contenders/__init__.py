"""The contenders by name. A name is a family, or a family with a variant: `huey`, `celery/threads-8/batch`."""

import importlib
from typing import cast

from benchmarks.contenders.contract import Contender

FAMILIES = {
    "celery": "benchmarks.contenders.celery_raw",
    "celery-default": "benchmarks.contenders.celery_raw",
    "celery-best": "benchmarks.contenders.celery_raw",
    "dramatiq": "benchmarks.contenders.dramatiq_",
    "taskiq": "benchmarks.contenders.taskiq_",
    "huey": "benchmarks.contenders.huey_",
    "ours": "benchmarks.contenders.ours",
}
COMPARED = ("celery-default", "celery-best", "dramatiq", "taskiq", "huey", "ours")
"""What `make bench` compares."""
REFERENCE = "celery-best"
"""The contender that the others are divided by."""


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

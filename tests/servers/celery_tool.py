"""The chaos tool's operations as plain Celery tasks, for comparison: the same effects, in the same file.

`CELERY_VARIANT` says how Celery is configured: `default` as installed, `careful` as its documentation advises for tasks
that must not be lost, `rabbitmq` the same on a quorum queue with publisher confirms and a delivery limit.
"""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from kombu import Queue

from tests.servers.chaos_tool import note

QUEUE = "celery"
CAREFUL: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "broker_connection_max_retries": None,
    "result_backend_always_retry": True,
    "broker_transport_options": {
        "visibility_timeout": 8,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 15,
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
}

RABBITMQ: dict[str, Any] = CAREFUL | {
    "task_queues": [Queue(QUEUE, queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})],
    "broker_transport_options": {"confirm_publish": True, "read_timeout": 10},
}
VARIANTS: dict[str, dict[str, Any]] = {"default": {}, "careful": CAREFUL, "rabbitmq": RABBITMQ}


class Busy(Exception):
    """What a busy upstream says."""


def make_app(broker_url: str, variant: str, *, results_url: str | None = None) -> Celery:
    """The app of a worker, or (without results) of who only publishes."""
    app = Celery("chaos", broker=broker_url, backend=results_url)
    app.conf.update(VARIANTS[variant])
    app.conf.broker_connection_retry_on_startup = True
    return app


app = make_app(
    os.environ.get("CELERY_BROKER", "redis://127.0.0.1:6379/0"),
    os.environ.get("CELERY_VARIANT", "default"),
    results_url=os.environ.get("CELERY_RESULTS", "redis://127.0.0.1:6379/0"),
)


def _note(task: Any, what: str) -> None:
    note(str(task.request.id), what, str(task.request.hostname))


def read(task: Any, seconds: float) -> str:
    """Change nothing."""
    time.sleep(seconds)
    return str(task.request.id)


def idempotent(task: Any, seconds: float) -> str:
    """Have an effect that may happen again."""
    _note(task, "idempotent")
    time.sleep(seconds)
    return str(task.request.id)


def verifiable(task: Any, seconds: float) -> str:
    """Have an effect; Celery has no way to look for it."""
    time.sleep(seconds / 2)
    _note(task, "verifiable")
    time.sleep(seconds / 2)
    return str(task.request.id)


def once(task: Any, seconds: float) -> str:
    """Have an effect that must not happen twice."""
    time.sleep(seconds / 2)
    _note(task, "once")
    time.sleep(seconds / 2)
    return str(task.request.id)


def flaky(task: Any, seconds: float) -> str:
    """Fail in the first attempt, as a busy upstream does."""
    if task.request.retries == 0:
        raise Busy("busy")
    time.sleep(seconds)
    return str(task.request.id)


def poison(task: Any, seconds: float) -> str:
    """Kill the worker."""
    os.kill(os.getpid(), 9)
    return str(task.request.id)


def hang(task: Any, seconds: float) -> str:
    """Never return."""
    time.sleep(3600)
    return str(task.request.id)


def wait_s(task: Any, published_at: float, seconds: float) -> float:
    """Take a while, and say how long the task has waited."""
    waited_s = time.time() - published_at
    time.sleep(seconds)
    return waited_s


for _function in (read, idempotent, verifiable, once, poison):
    app.task(name=f"chaos.{_function.__name__}", bind=True)(_function)
app.task(name="chaos.wait_s", bind=True)(wait_s)
app.task(name="chaos.hang", bind=True, time_limit=1)(hang)
# Celery's own full jitter; a pause of whole seconds is the least that it offers.
app.task(name="chaos.flaky", bind=True, autoretry_for=(Busy,), retry_backoff=1, max_retries=3)(flaky)


def _say_ready(**_: object) -> None:
    ready = os.environ.get("CELERY_READY_FILE")
    if ready:
        Path(ready).write_text(str(os.getpid()))


worker_ready.connect(_say_ready, weak=False)

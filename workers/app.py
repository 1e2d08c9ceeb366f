"""The Celery app, and one Celery task per operation, named like it: Flower and `inspect` speak the user's words.

All of them are bound to the one runner. In the asyncio pool the task body is never called (see `pool.py`); in Celery's
own pools it runs the same runner on the loop of its process.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.app.task import Task as CeleryTask

from routing.signing import HEADER
from tasks.operation import Tool
from toolswarm.intake import INTAKE_TASK
from toolswarm.states import State
from workers import rabbitmq_transport, transport
from workers.host import Host, host_of_process
from workers.runner import Outcome, Task

STRATEGY = "workers.pool:call_strategy"

transport.register_scheme()  # before a connection is made: the schemes of our broker_url
rabbitmq_transport.register_scheme()
app = Celery("toolswarm", amqp="workers.reconnecting:Amqp")
app.config_from_object("celeryconfig")


class CallEnded(Exception):
    """What Celery's own pools are told of a call without success, so that Flower shows it as failed."""


def forget_celerys_tasks() -> None:
    """Forget `celery.map`, `celery.chord` and the like: nobody signs them, and our pool would hold them for ever."""
    app.finalize()
    for name in [name for name in app.tasks if name.startswith("celery.")]:
        app.tasks.unregister(name)


def register_tool(tool: Tool, make_host: Callable[[], Host], *, own_pool: bool) -> None:
    """Make the Celery tasks of one tool; `own_pool` says that they run in our asyncio pool."""

    def run(task: CeleryTask[Any, Any]) -> str:
        host = host_of_process(make_host)
        order = Task(id=str(task.request.id), operation=str(task.name), header=task.request.get(HEADER))
        outcome: Outcome = host.wait(host.run(order))
        if outcome.state not in (State.SUCCEEDED, None):
            raise CallEnded(f"{outcome.state}: {outcome.code}")
        return str(outcome.state or outcome.code)

    for declaration in tool.operations.values():
        task = app.task(name=f"{tool.name}.{declaration.name}", bind=True, throws=(CallEnded,))(run)
        if own_pool:
            task.Strategy = STRATEGY


def register_intake() -> None:
    """Make the Celery task of the router pool, which runs in our asyncio pool."""

    def never_called(**arguments: str) -> None:
        raise AssertionError("requests are answered by the pool")

    app.task(name=INTAKE_TASK)(never_called).Strategy = STRATEGY

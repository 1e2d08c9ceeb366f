"""Celery's settings and nothing else, a reason behind each.

Celery carries tasks from the broker to a worker and shows them to Flower; whether a call ran, may run again and how it
ended is the ledger's business. So the settings aim at prompt delivery and plain behaviour, and need not save results.
"""

import os
from typing import Any

from store.configuration import load
from store.connection import celery_url
from store.sentinel import kombu_options
from store.sentinel_url import is_sentinel, parse

_configuration = load(os.environ)
_store = _configuration.store

broker_url = celery_url(_store.broker_url, "toolswarm")  # workers/transport.py: kombu's BRPOP can lose a task
broker_transport_options: dict[str, Any] = {
    "visibility_timeout": _store.visibility_timeout_s,  # workers say every third of it that they still hold a task
    "unacked_restore_interval": _store.visibility_timeout_s / 3,  # kombu: 10 s times a throttle of 10
    "unacked_restore_throttle": 1,
    "priority_steps": [0, 3, 6],  # interactive, normal, background: three lists a queue instead of four
    "socket_timeout": 5,  # kombu: none, a half-open link would hang a publish for ever
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 5,  # a link whose answer is overdue by this is dropped
    "queue_order_strategy": "priority",  # the lists in the order given
}
if is_sentinel(_store.broker_url):
    broker_transport_options["sentinel"] = kombu_options(parse(_store.broker_url))
ledger_broker = {"broker_url": broker_url, "broker_transport_options": broker_transport_options}  # for `intake`
if _configuration.broker.url:
    broker_url = _configuration.broker.url.reveal().replace("amqp://", "rabbitmq://")  # workers/rabbitmq_transport.py
    broker_transport_options = {
        "confirm_publish": True,  # events and remote control: what is refused is an error, not lost
        "read_timeout": 15,  # longer than a heartbeat
        "write_timeout": 5,
    }
    broker_heartbeat = 10  # a link that is dead is noticed, and RabbitMQ gives its tasks to others
broker_connection_retry_on_startup = True  # workers may be up before the broker
broker_channel_error_retry = True  # a broker that is full refuses commands: as good as away, and as passing
broker_connection_max_retries = None  # Celery gives up after 100

result_backend = None  # results lie in the ledger
task_ignore_result = True
task_acks_late = True  # the task is held until the ledger has the end
task_acks_on_failure_or_timeout = True  # a failure is an end too
task_reject_on_worker_lost = False  # the ledger's sweep gives lost calls back and counts attempts; this would loop
task_serializer = "json"
accept_content = ["json"]  # never pickle
task_create_missing_queues = True  # the worker names its one queue itself
task_default_queue = "intake"
task_default_priority = 3

worker_prefetch_multiplier = 1  # as many tasks as slots: nothing is hoarded
worker_disable_rate_limits = True  # Celery's are per worker, in memory
worker_cancel_long_running_tasks_on_connection_loss = False  # fences make it needless, and Celery 5.7 loses tasks so
worker_enable_remote_control = True  # Flower asks workers; the broker is a private socket or has ACLs
worker_send_task_events = False  # Flower switches events on when it comes; without it they cost a quarter of the CPU
task_send_sent_event = False
task_track_started = False
worker_hijack_root_logger = False
worker_redirect_stdouts = False
worker_proc_alive_timeout = 30.0  # a prefork child may start on a busy machine
worker_timer_precision = 0.5

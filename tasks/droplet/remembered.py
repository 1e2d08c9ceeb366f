"""What answers about remote hosts depend on, and how long they are remembered.

How a host is (load, memory, disks) is a glance, and remembered as one. Its files are not remembered unless an operator
says so (`[cache.ttl_s]`): jobs, logs and other people change them, and nobody tells us. What is declared here makes our
own writes and commands void what an operator has chosen to remember.
"""

from collections.abc import Mapping
from typing import Any

from tasks.droplet.hosts import Hosts
from tasks.operation import Run
from toolswarm.messages import Remember

GLANCE = Remember(ttl_s=5)
HOST = ("host:{host}",)
HERE = ("desktop:{root}",)
"""Of a transfer to this machine: what the tool `desktop` answers of the tenant's root."""


def tag_values(hosts: Hosts, run: Run, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hosts by their names, also the default one and those of groups; the tenant's root for a transfer."""
    values: dict[str, Any] = {}
    if "local_path" in arguments and hosts.desk is not None:
        values["root"] = str(hosts.desk.root(run.call.tenant).root)
    named = arguments.get("on")
    if named:
        values["host"] = sorted({found.name for found in hosts.find_all(list(named), run)})
    else:
        job_host = str(arguments.get("job", "")).rpartition(":")[0]
        values["host"] = hosts.find(job_host or arguments.get("host"), run).name
    return values

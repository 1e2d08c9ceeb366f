"""Arguments that are larger than the swarm takes are refused alike by the gateway and the router pool."""

import pytest

from tests.servers.gateway import start_gateway
from tests.servers.stack import API_KEY, Stack
from toolswarm import Client
from toolswarm.errors import PayloadTooLarge


@pytest.mark.parametrize("way", ["gateway", "router pool"])
def test_arguments_that_are_too_large_are_refused(stack: Stack, way: str) -> None:
    stack.settings["TOOLSWARM_GATEWAY__MAX_BODY_BYTES"] = "2000"
    stack.start_worker("trial", "w1")
    if way == "gateway":
        url = start_gateway(stack)
    else:
        stack.start_worker("intake", "i1")
        url = stack.valkey.url

    with Client(url, api_key=API_KEY, timeout_s=20) as client:
        with pytest.raises(PayloadTooLarge) as refused:
            client.call("trial.echo", text="x" * 3000)
        fitting = client.call("trial.echo", text="x" * 1000)

    assert refused.value.details["limit_bytes"] == 2000
    assert fitting == "x" * 1000

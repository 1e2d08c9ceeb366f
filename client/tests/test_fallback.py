"""`fallback`, and the same in Python: what is tried next when a tool cannot be had."""

import msgspec
import pytest

from client.tests.scripted_gateway import ScriptedGateway, problem
from toolswarm import AsyncClient, Client
from toolswarm.cli.main import main
from toolswarm.errors import InvalidRequest, PermissionDenied
from toolswarm.messages import FallbackChains

API_KEY = "the-key"
CHAINS = FallbackChains(fallbacks={"droplet": ("desktop",), "github": ()})
PUT = "PUT /v1/fallbacks/droplet"


@pytest.fixture(autouse=True)
def environment(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLSWARM_URL", gateway.url)
    monkeypatch.setenv("TOOLSWARM_API_KEY", API_KEY)


def test_the_chains_are_listed(gateway: ScriptedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.answers("GET /v1/fallbacks", CHAINS)

    status = main(["fallback"])

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert (status, lines[1:]) == (0, [["droplet", "desktop"], ["github", "nothing"]])


def test_a_chain_is_set_and_shown(gateway: ScriptedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.answers(PUT, CHAINS)

    status = main(["fallback", "set", "droplet", "desktop", "--json"])

    assert (status, msgspec.json.decode(capsys.readouterr().out)) == (
        0,
        {"fallbacks": {"droplet": ["desktop"], "github": []}},
    )
    assert msgspec.json.decode(gateway.asked_for(PUT)[0].body) == {"chain": ["desktop"]}


def test_a_chain_is_given_back_to_the_configuration(gateway: ScriptedGateway) -> None:
    gateway.answers("DELETE /v1/fallbacks/droplet", FallbackChains(fallbacks={}))

    assert main(["fallback", "unset", "droplet"]) == 0


def test_what_is_to_be_set_must_be_named(gateway: ScriptedGateway) -> None:
    assert main(["fallback", "set"]) == 2
    assert gateway.asked == []


def test_who_is_not_the_operator_is_told(gateway: ScriptedGateway) -> None:
    gateway.answers(PUT, problem("permission_denied", 403, "only the operator's key may set them"))

    with Client(gateway.url, API_KEY) as client, pytest.raises(PermissionDenied):
        client.set_fallback_chain("droplet", ["desktop"])


async def test_the_async_client_does_the_same(gateway: ScriptedGateway) -> None:
    gateway.answers("GET /v1/fallbacks", CHAINS)
    gateway.answers(PUT, problem("invalid_request", 400, "the chain comes back to droplet"))

    async with AsyncClient(gateway.url, API_KEY) as client:
        found = await client.fallback_chains()
        with pytest.raises(InvalidRequest):
            await client.set_fallback_chain("droplet", ["droplet"])

    assert found == CHAINS.fallbacks

"""Which hosts there are, who may use them, and by which keys both sides know each other."""

import base64
import hashlib
import hmac
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from local.demo_sshd import make_keys
from store.configuration import load
from store.sections import Secret
from store.tool_settings import Droplet, DropletHost, DropletTenant
from tasks.droplet.hosts import Hosts
from tasks.droplet.inventory import Inventory
from tasks.droplet.known_hosts import read_known_hosts
from tests.servers.droplets import call, droplets, failure
from tests.servers.ssh_keys import PASSPHRASE, ed25519_key, encrypted_key, rsa_key
from tests.servers.sshd import Remote, demo, openssh
from tests.servers.waiting import until
from tests.tasks.fake_run import FakeRun
from toolswarm.errors import ConfigurationError, OperationFailed


def host(**settings: Any) -> DropletHost:
    return msgspec.structs.replace(DropletHost(address="127.0.0.1", user="deploy"), **settings)


def _inventory(**settings: Any) -> Inventory:
    return Inventory(Droplet(**settings))


# -- names and groups ------------------------------------------------------------------------------------------------


def test_hosts_and_groups_come_from_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "toolswarm.toml"
    file.write_text(
        '[droplet.hosts.web-1]\naddress = "10.0.0.1"\nuser = "deploy"\n'
        '[droplet.hosts.web-2]\naddress = "10.0.0.2"\nuser = "deploy"\nport = 2222\nkey_passphrase = "hidden"\n'
        '[droplet.groups]\nweb = ["web-1", "web-2"]\n[droplet.tenants.acme]\nhosts = ["web"]\nroots = ["/srv"]\n'
    )
    settings = load({}, file).droplet

    inventory = Inventory(settings)

    assert [entry.name for entry in inventory.find_all(["web-2", "web"], "acme")] == ["web-2", "web-1"]
    assert inventory.find("web-2", "acme").known_as == "[10.0.0.2]:2222"
    assert inventory.roots("acme") == ("/srv",)
    assert "hidden" not in repr(settings) + repr(inventory.hosts)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hosts": {"-oProxyCommand=id": host()}}, "droplet.hosts"),
        ({"hosts": {"a b": host()}}, "droplet.hosts"),
        ({"hosts": {"a": host(address="-oProxyCommand=id")}}, "droplet.hosts.a.address"),
        ({"hosts": {"a": host(address="host;id")}}, "droplet.hosts.a.address"),
        ({"hosts": {"a": host(user="-l")}}, "droplet.hosts.a.user"),
        ({"hosts": {"a": host(user="x\ny")}}, "droplet.hosts.a.user"),
        ({"hosts": {"a": host(port=70_000)}}, "droplet.hosts.a.port"),
        ({"hosts": {"a": host(key_file="a\0b")}}, "droplet.hosts.a.key_file"),
        ({"hosts": {"a": host(jump="nowhere")}}, "droplet.hosts.a.jump"),
        ({"hosts": {"a": host(jump="b"), "b": host(jump="a")}}, "circle"),
        ({"groups": {"web": ("nowhere",)}}, "droplet.groups.web"),
        ({"hosts": {"a": host()}, "groups": {"a": ("a",)}}, "droplet.groups"),
        ({"tenants": {"acme": DropletTenant(hosts=("nowhere",))}}, "droplet.tenants.acme"),
        ({"tenants": {"acme": DropletTenant(roots=("relative",))}}, "droplet.tenants.acme.roots"),
        ({"tenants": {"acme": DropletTenant(roots=("/a/../b",))}}, "droplet.tenants.acme.roots"),
        ({"default_host": "nowhere"}, "droplet.default_host"),
    ],
)
def test_what_cannot_be_a_setting_is_refused_by_its_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        _inventory(**settings)


def test_without_hosts_the_advice_is_what_to_set() -> None:
    with droplets({}) as hosts:
        error = failure(hosts, "run", argv=["true"])

    assert (error.failure_code, error.before_effect) == ("host_not_configured", True)
    assert "droplet.hosts.NAME" in error.message


@pytest.mark.parametrize("name", ["other", "-oProxyCommand=id", "box;id", "$(id)", "box\n", "\0", ""])
def test_a_host_that_is_not_configured_is_refused(name: str) -> None:
    with droplets({"box": host()}) as hosts:
        for operation, arguments in (
            ("run", {"host": name, "argv": ["true"]}),
            ("run_group", {"on": [name or " "], "argv": ["true"]}),
            ("job_start", {"host": name, "argv": ["true"]}),
            ("host_status", {"host": name}),
            ("job_list", {"host": name}),
        ):
            assert failure(hosts, operation, **arguments).failure_code == "host_not_configured"


def test_with_several_hosts_and_no_default_one_must_be_named() -> None:
    inventory = _inventory(hosts={"a": host(), "b": host()})

    with pytest.raises(OperationFailed, match="name a host"):
        inventory.find(None, "default")

    assert _inventory(hosts={"a": host(), "b": host()}, default_host="b").find(None, "default").name == "b"


def test_each_host_has_a_circuit_breaker_of_its_own() -> None:
    with droplets({"a": host(), "b": host()}, default_host="b") as hosts:
        targets = [hosts.target(given) for given in ({"host": "a"}, {}, {"job": "a:1"}, {"on": ["a"]}, {"host": "c"})]

    assert targets == ["host a", "host b", "host a", None, None]


# -- tenants ---------------------------------------------------------------------------------------------------------

TENANTS = {
    "acme": DropletTenant(hosts=("web",)),
    "ops": DropletTenant(hosts=("*",)),
    "careful": DropletTenant(hosts=("*",), users=("deploy",)),
}
HOSTS = {"web-1": host(), "web-2": host(), "db": host(user="postgres")}


@pytest.mark.parametrize(
    ("tenant", "allowed"),
    [
        ("acme", {"web-1", "web-2"}),
        ("ops", {"web-1", "web-2", "db"}),
        ("careful", {"web-1", "web-2"}),
        ("stranger", set[str]()),
    ],
)
def test_a_tenant_sees_and_uses_its_own_hosts_alone(tenant: str, allowed: set[str]) -> None:
    with droplets(HOSTS, groups={"web": ("web-1", "web-2"), "all": ("web-1", "db")}) as opened:
        settings = msgspec.structs.replace(opened.settings, tenants=TENANTS)
    hosts = Hosts(settings)

    listed = call(hosts, "list_hosts", FakeRun(tenant=tenant))
    refused = {
        name: failure(hosts, "run", FakeRun(tenant=tenant), argv=["true"], host=name).failure_code
        for name in HOSTS
        if name not in allowed
    }

    assert {entry.name for entry in listed.hosts} == allowed
    assert set(refused.values()) <= {"host_not_allowed"}
    assert set(listed.groups) == ({"web", "all"} if tenant == "ops" else {"web"} if allowed else set())


def test_the_entry_for_everybody_is_for_those_without_one() -> None:
    inventory = _inventory(hosts=HOSTS, tenants={"*": DropletTenant(hosts=("db",)), "ops": DropletTenant(hosts=("*",))})

    assert set(inventory.allowed("anybody")) == {"db"}
    assert set(inventory.allowed("ops")) == set(HOSTS)


def test_hosts_can_be_listed_by_group() -> None:
    with droplets(HOSTS, groups={"web": ("web-1", "web-2")}, default_host="db") as hosts:
        listed = call(hosts, "list_hosts", group="web")
        error = failure(hosts, "list_hosts", group="nowhere")

    assert [(entry.name, entry.groups, entry.is_default) for entry in listed.hosts] == [
        ("web-1", ("web",), False),
        ("web-2", ("web",), False),
    ]
    assert error.failure_code == "host_not_configured"


# -- OpenSSH's files -------------------------------------------------------------------------------------------------


def test_an_openssh_configuration_names_hosts_and_fills_what_is_left_out(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host door\n  HostName 10.0.0.9\n  User gate\n  Port 2200\n"
        "Host web web-2\n  HostName 10.1.0.1\n  ProxyJump door,middle@10.0.0.8:23\n  IdentityFile ~/.ssh/web\n"
        "  UserKnownHostsFile /etc/known\n  HostKeyAlias web.internal\n"
        "Host *\n  User everybody\n"
    )
    settings = Droplet(hosts={"web": DropletHost(user="mine")}, ssh_config_file=str(config))

    inventory = Inventory(settings)

    web, second = inventory.hosts["web"], inventory.hosts["web-2"]
    assert set(inventory.hosts) == {"door", "web", "web-2"}
    assert (web.address, web.user, web.port, web.known_as) == ("10.1.0.1", "mine", 22, "web.internal")
    assert (second.user, second.known_hosts_file) == ("everybody", "/etc/known")
    assert web.key_files == (os.path.expanduser("~/.ssh/web"),)
    assert web.jump is not None
    assert web.jump.jump is not None
    assert (web.jump.address, web.jump.user, web.jump.port) == ("10.0.0.8", "middle", 23)
    assert (web.jump.jump.address, web.jump.jump.user, web.jump.jump.port) == ("10.0.0.9", "gate", 2200)


@pytest.mark.parametrize(
    "line",
    [
        'Match exec "touch {witness}"\n  User x',
        "Match host a exec id\n  User x",
        "Host a\n  ProxyCommand touch {witness}",
        "Include other",
        "Host a\n  Port many",
        "Host a\n  ProxyJump -oProxyCommand=id",
        "Host b\n  HostName -oProxyCommand=id",
    ],
)
def test_an_openssh_configuration_that_would_run_or_read_something_is_refused(tmp_path: Path, line: str) -> None:
    config, witness = tmp_path / "config", tmp_path / "witness"
    config.write_text(f"Host a\n  HostName 10.0.0.1\n{line.format(witness=witness)}\n")

    with pytest.raises(ConfigurationError):
        _inventory(ssh_config_file=str(config))

    assert not witness.exists()


def test_known_hosts_is_read_as_openssh_does_it(tmp_path: Path) -> None:
    salt = os.urandom(20)
    hashed = base64.b64encode(hmac.new(salt, b"hidden", hashlib.sha1).digest()).decode()
    key, other = (base64.b64encode(text).decode() for text in (b"key", b"other"))
    file = tmp_path / "known_hosts"
    file.write_text(
        f"# comment\n\nplain,10.0.0.1 ssh-ed25519 {key}\n[odd]:2222 ssh-rsa {key}\n"
        f"*.example,!bad.example ssh-rsa {key}\n"
        f"|1|{base64.b64encode(salt).decode()}|{hashed} ssh-ed25519 {key}\n@revoked plain ssh-ed25519 {other}\n"
        f"@cert-authority * ssh-ed25519 {other}\nbroken ssh-rsa ???\nshort\n"
    )

    kinds = {
        name: {kind for kind, _ in read_known_hosts(str(file), name).trusted}
        for name in ("plain", "10.0.0.1", "[odd]:2222", "odd", "web.example", "bad.example", "hidden", "broken")
    }

    assert kinds == {
        "plain": {"ssh-ed25519"},
        "10.0.0.1": {"ssh-ed25519"},
        "[odd]:2222": {"ssh-rsa"},
        "odd": set(),
        "web.example": {"ssh-rsa"},
        "bad.example": set(),
        "hidden": {"ssh-ed25519"},
        "broken": set(),
    }
    assert read_known_hosts(str(file), "plain").revoked == {b"other"}


# -- keys of hosts ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["demo", pytest.param("openssh", marks=pytest.mark.needs_sshd)])
def remote(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with {"demo": demo, "openssh": openssh}[request.param](tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with openssh(tmp_path_factory.mktemp("real")) as served:
        yield served


def _line(remote: Remote) -> str:
    if remote.settings.host_key:
        return remote.settings.host_key
    return Path(remote.settings.known_hosts_file).read_text().split(" ", 1)[1].strip()


def _fingerprint(line: str) -> str:
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _other(remote: Remote) -> str:
    return make_keys(remote.folder / "other", 1).host_line


def _try(settings: DropletHost) -> OperationFailed | None:
    """Why one cannot get in."""
    run = FakeRun()
    with droplets({"box": settings}) as hosts:
        try:
            with hosts.session(hosts.find("box", run), run):
                return None
        except OperationFailed as error:
            return error


def _refusal(settings: DropletHost) -> str:
    error = _try(settings)
    assert error is not None
    assert error.before_effect
    return error.failure_code


def test_a_pinned_key_is_accepted_in_every_spelling(remote: Remote) -> None:
    line, other = _line(remote), _other(remote)

    for spelled in (
        line,
        _fingerprint(line),
        f"{line.split()[0]} {_fingerprint(line)}",
        f"{other}\n{line}\n",
        f"{_fingerprint(other)}\n{_fingerprint(line)}",
    ):
        assert _try(msgspec.structs.replace(remote.settings, host_key=spelled, known_hosts_file="")) is None


@pytest.mark.parametrize("spelling", ["line", "fingerprint"])
def test_another_key_than_the_pinned_one_is_refused_for_good(remote: Remote, spelling: str) -> None:
    line = _other(remote)
    pinned = line if spelling == "line" else _fingerprint(line)

    error = _try(msgspec.structs.replace(remote.settings, host_key=pinned, known_hosts_file=""))

    assert error is not None
    assert (error.failure_code, error.failure_retryable, error.before_effect) == ("host_key", False, True)


@pytest.mark.parametrize(
    "pinned", ["ecdsa-sha2-nistp256 AAAA", "ssh-foo AAAA", "nonsense", "SHA256:AAAA", "ssh-rsa ???"]
)
def test_a_pin_of_another_kind_or_none_at_all_is_refused(remote: Remote, pinned: str) -> None:
    assert _refusal(msgspec.structs.replace(remote.settings, host_key=pinned)) == "host_key"


def test_an_unknown_key_is_refused_and_not_learned(remote: Remote, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("")

    for file in (str(known_hosts), "", str(tmp_path / "missing")):
        assert _refusal(msgspec.structs.replace(remote.settings, host_key="", known_hosts_file=file)) == "host_key"

    assert known_hosts.read_text() == ""


def test_a_key_that_was_revoked_is_refused_though_it_is_also_known(remote: Remote, tmp_path: Path) -> None:
    known_hosts, line, name = tmp_path / "known_hosts", _line(remote), f"[127.0.0.1]:{remote.port}"
    known_hosts.write_text(f"{name} {line}\n")
    settings = msgspec.structs.replace(remote.settings, host_key="", known_hosts_file=str(known_hosts))
    assert _try(settings) is None

    known_hosts.write_text(f"{name} {line}\n{name} {_other(remote)}\n@revoked {name} {line}\n")

    assert _refusal(settings) == "host_key"


@pytest.mark.needs_sshd
def test_a_server_with_several_keys_must_show_the_pinned_one(real: Remote) -> None:
    pinned = real.rsa_host_line

    assert _try(msgspec.structs.replace(real.settings, host_key=pinned)) is None
    assert _try(msgspec.structs.replace(real.settings, host_key=f"ssh-rsa {_fingerprint(pinned)}")) is None


@pytest.mark.needs_sshd
@pytest.mark.parametrize(
    ("option", "why"),
    [("Ciphers=aes256-cbc", "outdated"), ("MACs=hmac-sha1", "outdated")],
)
def test_outdated_cryptography_is_not_spoken(tmp_path: Path, option: str, why: str) -> None:
    extra = ("-o", "Ciphers=aes256-ctr") if option.startswith("MACs") else ()  # one without a MAC of its own
    with openssh(tmp_path / "old", "-o", option, *extra) as old:
        error = _try(old.settings)

    assert error is not None
    assert error.failure_code == "host_unreachable"
    assert why in error.message


# -- our own keys ----------------------------------------------------------------------------------------------------


@pytest.mark.needs_sshd
def test_rsa_and_encrypted_keys_let_us_in(real: Remote, tmp_path: Path) -> None:
    rsa, encrypted = rsa_key(tmp_path), encrypted_key(tmp_path)
    for key in (rsa, encrypted):
        real.authorize(key)

    assert _try(msgspec.structs.replace(real.settings, key_file=str(rsa.file))) is None
    with_passphrase = msgspec.structs.replace(
        real.settings, key_file=str(encrypted.file), key_passphrase=Secret(PASSPHRASE)
    )
    assert _try(with_passphrase) is None


def test_a_key_that_cannot_be_used_is_named_and_nothing_of_it_told(remote: Remote, tmp_path: Path) -> None:
    encrypted, garbage = encrypted_key(tmp_path), tmp_path / "garbage"
    garbage.write_text("no key")
    settings = msgspec.structs.replace(remote.settings, key_file=str(encrypted.file))

    errors = [
        _try(settings),
        _try(msgspec.structs.replace(settings, key_passphrase=Secret("not the passphrase"))),
        _try(msgspec.structs.replace(settings, key_file=str(garbage))),
        _try(msgspec.structs.replace(settings, key_file=str(tmp_path / "missing"))),
        _try(msgspec.structs.replace(settings, key_file="")),
    ]

    for error in errors:
        assert error is not None
        assert (error.failure_code, error.before_effect) == ("host_not_configured", True)
        assert "droplet.hosts.box.key_" in error.message
        assert "not the passphrase" not in f"{error.message}{error.details}{error.__cause__}"


def test_a_key_that_the_host_does_not_take_is_an_authentication_error(remote: Remote, tmp_path: Path) -> None:
    stranger = ed25519_key(tmp_path)

    error = _try(msgspec.structs.replace(remote.settings, key_file=str(stranger.file)))

    assert error is not None
    assert (error.failure_code, error.failure_retryable) == ("authentication", False)


@pytest.mark.needs_sshd
def test_the_agents_keys_are_tried_when_the_settings_say_so(
    real: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", sock)
        until(lambda: os.path.exists(sock), "the agent listens")
        subprocess.run(["ssh-add", "-q", real.settings.key_file], check=True, stderr=subprocess.DEVNULL)

        without = _refusal(msgspec.structs.replace(real.settings, key_file=""))
        with_agent = _try(msgspec.structs.replace(real.settings, key_file="", agent=True))
    finally:
        agent.kill()
        agent.wait()

    assert without == "host_not_configured"
    assert with_agent is None

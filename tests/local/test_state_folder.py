"""The folder that remembers a system: one at a time, private, and with keys that are made once."""

import fcntl
import os
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from local import snapshot
from local.keys import provide_keys
from local.snapshot import TRANSITIONS, Endpoint
from local.state_folder import AlreadyLocked, StateFolder
from store.configuration import Configuration, Gateway, Signing
from store.sections import Secret
from toolswarm.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    state = StateFolder(tmp_path / "state")
    state.create()
    return state


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_the_folder_is_for_its_owner_alone(folder: StateFolder) -> None:
    assert [mode(path) for path in (folder.path, folder.logs, folder.broker)] == [0o700] * 3


def test_a_second_lock_is_refused_and_says_who_holds_it(folder: StateFolder) -> None:
    held = folder.lock()

    with pytest.raises(AlreadyLocked) as refused:
        folder.lock()

    assert refused.value.details["pid"] == os.getpid()
    assert folder.running_pid() == os.getpid()
    os.close(held)


def test_a_lock_whose_holder_is_gone_is_no_problem(folder: StateFolder) -> None:
    os.close(folder.lock())

    assert folder.running_pid() is None
    os.close(folder.lock())


def test_the_lock_is_not_handed_on_to_children_by_accident(folder: StateFolder) -> None:
    held = folder.lock()

    assert fcntl.fcntl(held, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(held)


def test_keys_are_made_once_with_tight_modes(folder: StateFolder) -> None:
    first = provide_keys(Configuration(), folder)
    second = provide_keys(Configuration(), folder)

    assert first.api_key_file is not None
    assert first.api_key_file.read_text().strip() == first.new_api_key
    assert first.new_api_key.startswith("tsk_")
    assert len(first.new_api_key) == len("tsk_") + 43
    assert second.new_api_key == ""
    assert [mode(first.api_key_file), mode(first.private_key_file), mode(first.public_key_file)] == [
        0o600,
        0o600,
        0o644,
    ]
    assert first.new_api_key not in repr(first)


def test_the_signing_keys_are_a_pair(folder: StateFolder) -> None:
    keys = provide_keys(Configuration(), folder)

    private = load_pem_private_key(keys.private_key_file.read_bytes(), password=None)
    public = load_pem_public_key(keys.public_key_file.read_bytes())

    assert private.public_key() == public


def test_a_configured_api_key_is_used_and_none_is_made(folder: StateFolder) -> None:
    keys = provide_keys(Configuration(gateway=Gateway(api_key=Secret("mine"))), folder)

    assert keys.api_key_file is None
    assert not folder.api_key_file.exists()


def test_half_a_pair_of_signing_keys_is_refused(folder: StateFolder, tmp_path: Path) -> None:
    public = tmp_path / "public.pem"
    public.touch()

    with pytest.raises(ConfigurationError, match=r"signing\.private_key_file"):
        provide_keys(Configuration(signing=Signing(public_key_file=str(public))), folder)


def test_the_sockets_lie_in_a_private_folder_with_a_short_path(tmp_path: Path) -> None:
    deep = StateFolder(tmp_path / ("d" * 100) / ("e" * 100))

    sockets = deep.socket_folder({"XDG_RUNTIME_DIR": str(tmp_path / ("x" * 90))})

    assert len(str(sockets / "broker.sock")) < 104
    assert mode(sockets) == 0o700
    deep.remove_socket_folder()
    assert not sockets.exists()


def test_the_runtime_folder_of_the_session_is_preferred(tmp_path: Path) -> None:
    runtime = Path(os.path.realpath(tmp_path)) / "run"
    runtime.mkdir(mode=0o700)
    state = StateFolder(tmp_path / "s")

    sockets = state.socket_folder({"XDG_RUNTIME_DIR": str(runtime)})

    expected = runtime / "toolswarm" if len(str(runtime)) < 70 else Path("/tmp")
    assert sockets.is_relative_to(expected)
    state.remove_socket_folder()


def test_a_socket_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "s")
    sockets = state.socket_folder({})
    sockets.chmod(0o755)

    with pytest.raises(ConfigurationError, match="open to others"):
        state.socket_folder({})

    state.remove_socket_folder()


def test_a_large_log_is_set_aside(folder: StateFolder) -> None:
    log = folder.logs / "desktop-1.log"
    log.touch()
    os.truncate(log, 10 * 1024 * 1024 + 1)
    (folder.logs / "beat.log").write_text("small\n")

    folder.rotate_logs()

    assert sorted(path.name for path in folder.logs.iterdir()) == ["beat.log", "desktop-1.log.1"]


def test_the_endpoint_is_written_in_one_step_and_removed(folder: StateFolder) -> None:
    folder.write_endpoint(Endpoint(url="http://127.0.0.1:8080", broker="unix:///b.sock?db=0", flower="", pid=1))
    assert b'"url": "http://127.0.0.1:8080"' in folder.endpoint_file.read_bytes()

    folder.remove_endpoint()
    folder.remove_endpoint()

    assert not folder.endpoint_file.exists()


def test_the_picture_of_the_states_says_what_the_table_says() -> None:
    assert snapshot.__doc__ is not None
    drawn: set[tuple[str, str]] = set()
    for line in snapshot.__doc__.split("```")[1].splitlines():
        steps = [[name.strip() for name in step.replace("|", ",").split(",")] for step in line.split("->")]
        for sources, targets in pairwise(steps):
            drawn |= {(source, target) for source in sources for target in targets}

    assert drawn == {(str(source), str(target)) for source, targets in TRANSITIONS.items() for target in targets}

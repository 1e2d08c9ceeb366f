"""Roots that would give away our keys or tenants' workspaces are refused before anything runs."""

from pathlib import Path

import pytest

from store.configuration import Cache, Configuration, Local
from store.tool_settings import Desktop
from tasks.desktop import TOOL
from toolswarm.errors import ConfigurationError


def open_with(state: Path, **desktop: object) -> None:
    settings = Desktop(workspaces=str(state / "workspaces"), **desktop)  # type: ignore[arg-type]
    TOOL.open(Configuration(desktop=settings, local=Local(state=str(state))))


@pytest.mark.parametrize("root", ["", ".toolswarm", ".toolswarm/workspaces/other", ".toolswarm/logs"])
def test_a_root_that_holds_or_lies_in_the_state_folder_is_refused(tmp_path: Path, root: str) -> None:
    with pytest.raises(ConfigurationError, match=r"desktop.roots.acme: .*state folder"):
        open_with(tmp_path / ".toolswarm", roots={"acme": str(tmp_path / root)})


def test_a_link_to_the_state_folder_is_no_way_round(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    with pytest.raises(ConfigurationError, match=r"desktop.roots.acme"):
        open_with(tmp_path / ".toolswarm", roots={"acme": str(tmp_path / "link" / ".toolswarm")})


@pytest.mark.parametrize("setting", ["sandbox_read", "sandbox_write"])
def test_commands_of_all_tenants_may_not_be_given_the_state_folder(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"desktop.{setting}"):
        open_with(tmp_path / ".toolswarm", **{setting: (str(tmp_path),)})


def test_a_root_that_holds_the_secret_of_the_cache_is_refused(tmp_path: Path) -> None:
    settings = Desktop(workspaces=str(tmp_path / "state"), roots={"acme": str(tmp_path / "project")})
    cache = Cache(secret_file=str(tmp_path / "project" / "cache.key"))

    with pytest.raises(ConfigurationError, match=r"desktop.roots.acme: .*cache.secret_file"):
        TOOL.open(Configuration(desktop=settings, cache=cache, local=Local(state=str(tmp_path / "state"))))


def test_roots_apart_from_the_state_folder_are_taken_and_two_tenants_may_share_one(tmp_path: Path) -> None:
    open_with(tmp_path / ".toolswarm", roots={"acme": str(tmp_path / "project"), "b": str(tmp_path / "project")})

"""The sections of `toolswarm.toml` that belong to one tool each: `[desktop]`, `[github]`, `[droplet]`."""

import msgspec

from store.sections import Secret, Section


class Desktop(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local files and processes."""

    workspaces: str = ".toolswarm/workspaces"
    """Each tenant without a root of its own gets a folder of its name here."""
    roots: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Tenant -> the folder its paths are relative to."""
    max_output_bytes: int = 1_048_576
    """The most that one command may return of each of its outputs."""


class Github(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GitHub, or anything that speaks its REST API."""

    base_url: str = "https://api.github.com"
    token: Secret = Secret("")
    """`GITHUB_TOKEN`."""
    default_owner: str = ""
    """Taken when a repository is named without its owner."""
    timeout_s: float = 15.0


class DropletHost(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One remote host; its key is pinned, never learned on the way."""

    address: str
    user: str
    port: int = 22
    key_file: str = ""
    """Private key (OpenSSH format)."""
    host_key: str = ""
    """`ssh-ed25519 AAAA…`, as in known_hosts without the name."""
    known_hosts_file: str = ""


class Droplet(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remote hosts over SSH."""

    hosts: dict[str, DropletHost] = msgspec.field(default_factory=dict[str, DropletHost])
    default_host: str = ""
    """Taken when a call names none; with a single host that one is."""
    connect_timeout_s: float = 5.0

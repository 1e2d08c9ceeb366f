"""What the demo's tools work on: a small GitHub and a remote host, both on this machine, with keys of their own."""

import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

DEMO_HOST = "demo"
"""Name of the remote host in the demo."""


@dataclass(frozen=True, kw_only=True)
class DemoTargets:
    """Where the targets listen, and the settings that point the tools at them."""

    folder: Path
    github_port: int
    sshd_port: int

    @property
    def github_url(self) -> str:
        """The address of the demo's GitHub."""
        return f"http://127.0.0.1:{self.github_port}"

    def github_argv(self) -> tuple[str, ...]:
        """How to start it."""
        return (sys.executable, "-m", "local.demo_github", "--port", str(self.github_port))

    def sshd_argv(self) -> tuple[str, ...]:
        """How to start the demo's remote host."""
        return (
            *(sys.executable, "-m", "local.demo_sshd"),
            *("--port", str(self.sshd_port), "--folder", str(self.folder)),
        )

    def environment(self) -> dict[str, str]:
        """Settings that go over the user's own: the demo never touches a real host or repository."""
        host = {
            "address": "127.0.0.1",
            "port": self.sshd_port,
            "user": "demo",
            "key_file": str(self.folder / "client_key"),
            "known_hosts_file": str(self.folder / "known_hosts"),
        }
        return {
            "TOOLSWARM_GITHUB__BASE_URL": self.github_url,
            "TOOLSWARM_DROPLET__HOSTS": msgspec.json.encode({DEMO_HOST: host}).decode(),
            "TOOLSWARM_DROPLET__DEFAULT_HOST": DEMO_HOST,
        }

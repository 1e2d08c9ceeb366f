"""The sections of `toolswarm.toml` that belong to one tool each: `[desktop]`, `[github]`, `[droplet]`."""

from typing import Literal

import msgspec

from store.sections import Secret, Section


class Desktop(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Local files and processes."""

    workspaces: str = ".toolswarm/workspaces"
    """Each tenant without a root of its own gets a folder of its name here."""
    roots: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Tenant -> the folder its paths are relative to. It must lie apart from our own folders (state, workspaces)."""
    max_file_bytes: int = 1_073_741_824
    """No larger file is read, written or copied: it is read to its end for the hash, about a second per GiB."""
    max_edit_bytes: int = 67_108_864
    """No file is edited that is larger, or that the edits would make larger: the old content, the new one and the one
    that the last edit found are held in memory, and up to 64 MiB for the places; a dry run takes several times more."""
    max_tree_entries: int = 100_000
    """The most files and folders that one copy may make."""
    read_cache_bytes: int = 33_554_432
    """The most that each worker process keeps of files it has read; 0: nothing."""
    read_ttl_s: dict[str, float] = msgspec.field(
        default_factory=lambda: {"read_file": 300.0, "read_files": 300.0, "file_info": 300.0}
    )
    """Operation -> how long what it read may be kept; it bounds memory, a changed file is always read again."""
    max_output_bytes: int = 1_048_576
    """The most that one command may return of each of its outputs."""
    sandbox: Literal["landlock", "landlock-files", "none"] = "landlock"
    """What keeps commands in. `landlock`: files, network and signals (Linux 6.12); `landlock-files`: the same, but a
    command may send signals to other processes of the worker's user (Linux 6.2); `none`: the worker's own rights. A
    machine that cannot give it runs no command."""
    sandbox_metadata: Literal["auto", "hidden", "refused", "open"] = "auto"
    """How modes, owners, times and attributes of files outside are kept from commands, which Landlock does not do.
    `hidden`: those files are not there, except the system's (/usr, /etc, /dev, /proc and /sys among them), which are
    mounted read-only (takes root or user namespaces); `refused`: chmod, chown, touch and the like fail on all files,
    which breaks git and others; `open`: they are not kept; `auto`: the first of `hidden` and `refused` that the machine
    gives."""
    sandbox_read: tuple[str, ...] = ()
    """Files and folders that commands may read and execute besides the system's and the tenant's root; with `hidden`,
    one that lies in a root cannot be changed by commands."""
    sandbox_write: tuple[str, ...] = ()
    """Files and folders that commands of all tenants may change, too."""
    sandbox_network: bool = False
    """Whether commands may use the network: also what listens on this machine, so give the broker's port a password."""
    sandbox_ports: tuple[int, ...] = ()
    """With `sandbox_network`: the only TCP ports that commands may connect to (they may not listen); empty: any."""
    command_processes: int = 256
    """A command with more processes than this is killed."""
    command_memory_bytes: int = 4_294_967_296
    """The most memory for data that one process of a command may take (RLIMIT_DATA)."""
    command_file_bytes: int = 4_294_967_296
    """The largest file that a command may write."""
    command_open_files: int = 1024
    """Files that one process of a command may have open at once."""
    command_cpu_s: int = 3600
    """Processor time of one process of a command."""
    sessions: int = 8
    """Processes with a session that one tenant may have at once in one worker process."""
    session_buffer_bytes: int = 1_048_576
    """How much of a session's output is kept to be read; the oldest is dropped first."""
    session_idle_s: float = 1800.0
    """The longest that a session may be left alone before it is ended."""
    session_total_s: float = 86_400.0
    """The longest that a session may last."""


class GithubLimits(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GitHub's limits that no answer tells (its documentation does), for each credential, over all workers."""

    at_once: int = 90
    """Requests on their way at the same time; GitHub allows 100, shared with whatever else uses the token."""
    points_per_minute: int = 900
    """A read is 1 point, a write 5."""
    writes_per_minute: int = 80
    writes_per_hour: int = 500
    normal_reserve: float = 0.1
    """The share of each budget that calls of normal priority leave to interactive ones."""
    background_reserve: float = 0.2


class GithubTenant(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tenant's own credential: a token, or an installation of a GitHub App; with neither, the shared one."""

    token: Secret = Secret("")
    default_owner: str = ""
    app_id: str = ""
    private_key_file: str = ""
    installation_id: int = 0


class GithubTemplate(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A template repository under a name of its own, for `create_repo_from_template`."""

    repo: str
    """`owner/name` of a repository that is marked as a template."""
    description: str = ""
    include_all_branches: bool = False


class Github(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GitHub, or anything that speaks its REST API."""

    base_url: str = "https://api.github.com"
    """For GitHub Enterprise Server `https://HOST/api/v3`. `http://` is for this machine (loopback) only."""
    allow_plain_http: bool = False
    """Whether `base_url` may be `http://` on another machine too: tokens then travel in clear."""
    token: Secret = Secret("")
    """`GITHUB_TOKEN`."""
    app_id: str = ""
    """Id (or client id) of a GitHub App, used instead of a token together with the next two."""
    private_key_file: str = ""
    """The App's private key (PEM)."""
    installation_id: int = 0
    default_owner: str = ""
    """Taken when a repository is named without its owner; else the owner of the credential."""
    timeout_s: float = 15.0
    """The longest silence of GitHub within one request."""
    max_answer_bytes: int = 16_777_216
    """A larger answer is not read to its end."""
    conditional: bool = True
    """Whether answers are remembered in the cache's Redis, to be asked for again at no cost."""
    remember_s: int = 86_400
    """How long an answer is remembered after its last use; GitHub is asked each time whether it still holds."""
    remember_bytes: int = 1_048_576
    """Larger answers are not remembered."""
    limits: GithubLimits = GithubLimits()
    tenants: dict[str, GithubTenant] = msgspec.field(default_factory=dict[str, GithubTenant])
    """Tenant -> its own credential."""
    templates: dict[str, GithubTemplate] = msgspec.field(default_factory=dict[str, GithubTemplate])
    """Name -> the template repository behind it."""


class DropletHost(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One remote host; its key is pinned, never learned on the way. What is left out comes from `ssh_config_file`."""

    address: str = ""
    """Name or IP address; empty: `HostName` of the SSH configuration, else the host's own name."""
    user: str = ""
    """Whom to log in as; empty: `User` of the SSH configuration."""
    port: int = 0
    """0: `Port` of the SSH configuration, else 22."""
    key_file: str = ""
    """Private key in OpenSSH's format (ed25519, ecdsa or rsa)."""
    key_passphrase: Secret = Secret("")
    """Of an encrypted key."""
    agent: bool = False
    """Also try the keys of the worker's SSH agent (`SSH_AUTH_SOCK`). The agent is never forwarded."""
    host_key: str = ""
    """`ssh-ed25519 AAAA…` as in known_hosts without the name, or a fingerprint `SHA256:…`; several, one a line."""
    known_hosts_file: str = ""
    """Empty: `droplet.known_hosts_file`."""
    jump: str = ""
    """Name of the configured host that the connection goes through."""


class DropletTenant(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant may do on remote hosts; the entry `"*"` is for the tenants without one."""

    hosts: tuple[str, ...] = ()
    """Names of hosts or groups; `"*"`: all."""
    users: tuple[str, ...] = ()
    """Remote users: a host that logs in as another one is refused; empty: any."""
    roots: tuple[str, ...] = ()
    """Absolute remote folders that file operations stay in; empty: the rights of the remote user alone."""


class Droplet(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remote hosts over SSH."""

    hosts: dict[str, DropletHost] = msgspec.field(default_factory=dict[str, DropletHost])
    groups: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict[str, tuple[str, ...]])
    """Group -> names of hosts."""
    tenants: dict[str, DropletTenant] = msgspec.field(default_factory=dict[str, DropletTenant])
    """Tenant -> what it may do. Without any entry everybody may use all hosts; with one, who has none is refused."""
    default_host: str = ""
    """Taken when a call names none; with a single host that one is."""
    ssh_config_file: str = ""
    """An OpenSSH client configuration; its `Host` names (those without patterns) are hosts too."""
    known_hosts_file: str = ""
    """For hosts without a key or a file of their own."""
    connect_timeout_s: float = 5.0
    connections_per_host: int = 4
    """The most that one worker process opens to one host; five commands share one."""
    idle_s: float = 120.0
    """A connection that nobody has used for so long is closed."""
    max_transfer_bytes: int = 1_073_741_824
    """No larger file is uploaded or downloaded."""
    runs_folder: str = ".cache/toolswarm"
    """On the hosts: where runs and jobs leave their claim, output and exit code; relative to the home folder."""
    runs_kept_s: int = 86_400
    """How long a repeated delivery finds what the first one has left; longer than any call lives."""
    jobs_kept_s: int = 604_800
    """How long an ended job can be looked at."""
    max_written_bytes: int = 67_108_864
    """What a command may write to each of its outputs before it is ended: it is kept on the host's disk."""

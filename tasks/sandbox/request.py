"""What a watcher is asked to run, as the worker writes it into a memory file and the watcher reads it there."""

import json
import os
from collections.abc import Sequence
from typing import NamedTuple


class Sandbox(NamedTuple):
    """What the command may reach; the folders of the request's descriptors come on top."""

    needs_abi: int
    """The least of Landlock's ABI that gives what is promised."""
    system: Sequence[str]
    """Files and folders to read and execute, as far as there are any."""
    read: Sequence[str]
    """The operator's own ones: each must be there."""
    write: Sequence[str]
    devices: Sequence[str]
    network: bool
    metadata: str
    """How modes, owners, times and attributes of files outside are kept: `hidden`, `refused`, `open`, or `auto`."""
    mounts: Sequence[str]
    """With `hidden`: what is there to be read, as far as it exists."""
    connect_ports: Sequence[int]
    """With network: the only TCP ports; empty: all."""


class Request(NamedTuple):
    """One command; paths and arguments in Python's form of file names (surrogates for bytes that are no UTF-8)."""

    program: str
    argv: Sequence[str]
    environment: dict[str, str]
    root: str
    """Where the root folder's descriptor leads."""
    temporary: str
    """A folder that is made for the command, and removed behind it."""
    terminal: bool
    """Whether its streams are a terminal that is to control it."""
    limits: dict[str, int]
    """Name of a resource (`NOFILE`) -> its limit."""
    processes: int
    """When the command has more of them, it is killed."""
    grace_s: float
    sandbox: Sandbox | None


def write_request(request: Request) -> int:
    """A memory file with the request in it."""
    fd = os.memfd_create("request", os.MFD_CLOEXEC)
    os.write(fd, json.dumps(request).encode("ascii"))
    return fd


def read_request(fd: int) -> Request:
    """The request in a memory file."""
    *fields, sandbox = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    return Request._make([*fields, None if sandbox is None else Sandbox._make(sandbox)])

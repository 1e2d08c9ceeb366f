"""The tool `droplet`: commands and files on remote hosts over SSH."""

from tasks.droplet.commands import run
from tasks.droplet.files import read_file
from tasks.droplet.hosts import Hosts
from tasks.operation import Tool

TOOL = Tool(name="droplet", open=Hosts.open, operations=(run, read_file))

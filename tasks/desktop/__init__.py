"""The tool `desktop`: files and commands on the worker's own machine, in one root folder for each tenant."""

from tasks.desktop.commands import run_command
from tasks.desktop.desk import Desk
from tasks.desktop.files import list_directory, read_file, write_file
from tasks.desktop.search import search
from tasks.operation import Tool

TOOL = Tool(name="desktop", open=Desk.open, operations=(read_file, write_file, list_directory, search, run_command))

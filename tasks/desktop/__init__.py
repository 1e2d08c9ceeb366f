"""The tool `desktop`: files and commands on the worker's own machine, in one root folder for each tenant."""

from tasks.desktop.batch import batch
from tasks.desktop.commands import run_command
from tasks.desktop.copies import copy
from tasks.desktop.desk import Desk
from tasks.desktop.edits import edit_file
from tasks.desktop.files import read_file, read_files
from tasks.desktop.listing import allowed_roots, file_info, list_directory
from tasks.desktop.moves import delete, make_directory, move
from tasks.desktop.process_streams import process_read, process_write
from tasks.desktop.processes import process_list, process_signal, process_start, process_stop
from tasks.desktop.remembered import tag_values
from tasks.desktop.search import search
from tasks.desktop.writes import append_file, write_file
from tasks.operation import Tool

_FILES = (
    *(read_file, read_files, write_file, append_file, edit_file),
    *(list_directory, file_info, allowed_roots),
    *(make_directory, move, copy, delete),
    batch,
)

_COMMANDS = (
    run_command,
    *(process_start, process_read, process_write, process_signal, process_stop, process_list),
)

TOOL = Tool(name="desktop", open=Desk.open, tag_values=tag_values, operations=(*_FILES, search, *_COMMANDS))

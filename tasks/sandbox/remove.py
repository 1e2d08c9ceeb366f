"""Removing a folder that a command has filled: however deep it is, whatever modes it has, links are not followed."""

import os
import stat
from collections.abc import Iterator
from itertools import count

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_folder(path: str) -> None:
    """Remove the folder and all in it; nothing happens when it is not there.

    Inner folders are moved up before they are emptied, so no depth needs a recursion or a long path.
    """
    try:
        _open_to_owner(path)
        top = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        free_names = (f".moved-{os.getpid()}-{number}" for number in count())
        while names := os.listdir(top):
            for name in names:
                _remove_entry(top, name, free_names)
    finally:
        os.close(top)
    os.rmdir(path)


def _remove_entry(top: int, name: str, free_names: Iterator[str]) -> None:
    if not _is_folder(top, name):
        os.unlink(name, dir_fd=top)
        return
    _open_to_owner(name, top)
    folder = os.open(name, _FOLDER, dir_fd=top)
    try:
        for inner in os.listdir(folder):
            if _is_folder(folder, inner):
                _open_to_owner(inner, folder)  # moving a folder changes its `..`
                os.rename(inner, next(free_names), src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(inner, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _is_folder(folder: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _open_to_owner(name: str, folder: int | None = None) -> None:
    os.chmod(name, 0o700, dir_fd=folder)

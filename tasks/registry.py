"""All tools by name. A tool is imported when it is asked for: a desktop worker never loads PyGithub or paramiko."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from tasks.operation import Tool

_MODULES = {"desktop": "tasks.desktop", "github": "tasks.github", "droplet": "tasks.droplet"}


class _Tools(Mapping[str, Tool]):
    def __getitem__(self, name: str) -> Tool:
        tool = import_module(_MODULES[name]).TOOL
        assert isinstance(tool, Tool)
        return tool

    def __contains__(self, name: object) -> bool:
        return name in _MODULES

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


TOOLS: Mapping[str, Tool] = _Tools()
"""Tool -> its declaration; the names are known without importing any."""

"""The tool `github`: repositories and issues over GitHub's REST API."""

from tasks.github.client import Clients
from tasks.github.repositories import get_contents, get_repo
from tasks.github.search import search_issues
from tasks.operation import Tool

TOOL = Tool(name="github", open=Clients.open, operations=(get_repo, get_contents, search_issues))

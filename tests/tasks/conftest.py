"""Fixtures of the tools' tests."""

from tests.servers.github import fake_github

__all__ = ["fake_github"]

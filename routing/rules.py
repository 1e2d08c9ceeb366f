"""The built-in rules for calls that leave out the tool, in order: the first that matches decides.

They are data. An operator's own rules (`[[routing.rules]]`) come before them.
"""

from store.configuration import RoutingRule


class PathRule(RoutingRule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A built-in rule, which may also ask that the context name a repository."""

    needs_repo: bool = False
    why: str


PATH_RULES: tuple[PathRule, ...] = (
    PathRule(
        name="tests-are-local",
        tool="desktop",
        path=("tests/**", "test/**", "**/tests/**", "**/test_*.py", "**/*_test.*", "**/*.test.*", "**/conftest.py"),
        why="tests are run and read where the work is done",
    ),
    PathRule(
        name="repository-settings",
        tool="github",
        path=(".github/**", "**/CODEOWNERS"),
        needs_repo=True,
        why="these files steer the repository on GitHub",
    ),
    PathRule(
        name="server-configuration",
        tool="droplet",
        path=(
            "/etc/**",
            "/var/log/**",
            "/srv/**",
            "/opt/**",
            "config/**",
            "conf/**",
            "nginx/**",
            "deploy/**",
            "**/*.conf",
            "**/*.service",
        ),
        why="configuration and logs of servers lie on the servers",
    ),
    PathRule(
        name="source-of-the-repository",
        tool="github",
        path=(
            "src/**",
            "lib/**",
            "docs/**",
            "README*",
            "LICENSE*",
            "**/*.py",
            "**/*.js",
            "**/*.ts",
            "**/*.go",
            "**/*.rs",
            "**/*.java",
            "**/*.md",
        ),
        needs_repo=True,
        why="the context names a repository, and this looks like its source",
    ),
)

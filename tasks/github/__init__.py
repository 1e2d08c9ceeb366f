"""The tool `github`: repositories, issues, pull requests and searches over GitHub's REST API.

Text that strangers wrote comes with hidden characters spelled out (`[U+202E]`) in results marked `untrusted`. What is
created bears a mark by which it is found again after a lost answer, so that nothing is created twice. Searches take
words as well as GitHub's query language. Several operations fit into one `batch` (reads) or `batch_changes`.
"""

from tasks.github.batch import batch_operations
from tasks.github.branches import create_branch, list_branches
from tasks.github.client import Clients
from tasks.github.comments import create_comment, list_comments, update_comment
from tasks.github.commits import get_commit, list_commits
from tasks.github.contents import get_contents
from tasks.github.create import create_repo, create_repo_from_template
from tasks.github.files import delete_file, put_file
from tasks.github.issues import create_issue, get_issue, list_issues, update_issue
from tasks.github.pulls import create_pull, get_pull, list_pulls, merge_pull
from tasks.github.push import push_files
from tasks.github.rate import rate_limit_status
from tasks.github.remembered import tag_values
from tasks.github.repositories import get_repo, list_repos
from tasks.github.search import search_code, search_issues, search_repositories, search_users
from tasks.github.trees import get_tree
from tasks.operation import Tool

REPOSITORY_OPERATIONS = (
    *(get_repo, list_repos, get_contents, get_tree, list_commits, get_commit, list_branches),
    *(create_branch, put_file, delete_file, push_files, create_repo, create_repo_from_template, rate_limit_status),
)

SOCIAL_OPERATIONS = (
    *(list_issues, get_issue, create_issue, update_issue, list_comments, create_comment, update_comment),
    *(list_pulls, get_pull, create_pull, merge_pull),
    *(search_issues, search_code, search_repositories, search_users),
)

TOOL = Tool(
    name="github",
    open=Clients.open,
    target=lambda clients, arguments: clients.host,
    tag_values=tag_values,
    operations=(
        *(*REPOSITORY_OPERATIONS, *SOCIAL_OPERATIONS),
        *batch_operations((*REPOSITORY_OPERATIONS, *SOCIAL_OPERATIONS)),
    ),
)

"""Rules of smart search for issues and pull requests, in the order in which they are tried."""

import re

from tasks.github.query_date_rules import date_rules
from tasks.github.query_rule import BARRIER, END, PHRASE_END, WORD, Kind, Rule, Situation, always, rule, with_head
from tasks.github.query_value_rules import LOGIN, count_rules, login, person_rule
from tasks.github.query_words import qualifier

_PULLS = r"(?:prs|pull[\s-]requests|merge[\s-]requests)"
_PULL = r"(?:pr|pull[\s-]request|merge[\s-]request)"
_BUGS = r"(?:bugs|bug\s+(?:reports|issues|tickets))"
ISSUE_HEAD = rf"(?:issues|tickets|{_BUGS}|{_PULLS}|feature\s+requests)"
"""What a text names when it looks for issues or pull requests."""
_SINGULAR = rf"(?:issue|ticket|bug|{_PULL})"
_STATES = {
    "open": "is:open",
    "opened": "is:open",
    "unresolved": "is:open",
    "closed": "is:closed",
    "resolved": "is:closed",
    "merged": "is:merged",
    "unmerged": "is:unmerged",
    "draft": "draft:true",
    "drafts": "draft:true",
    "unassigned": "no:assignee",
    "unlabeled": "no:label",
    "unlabelled": "no:label",
    "locked": "is:locked",
    "unlocked": "is:unlocked",
    "approved": "review:approved",
    "unreviewed": "review:none",
}
_STATE = "(?:" + "|".join(_STATES) + ")"
_NO_STATE_BEFORE = r"(?!(?:source|graph|api|ai|ssl|ssh|telemetry|id|street|data|captions?|loop|form|beta|mode|cells)\b)"
_NOT_AN_AUTHOR_AFTER = re.compile(
    r".*(?:ed|wn|en)|stand|standby|side|step|line|one|due|by|go|get|pass|sort|order|group", re.I
)
_LABELS = {"good first issues": "good first issue", "help wanted": "help wanted"}


def _state(match: re.Match[str], _situation: Situation) -> list[str] | None:
    return [_STATES[match.group("state").lower()]]


def _state_after(match: re.Match[str], situation: Situation) -> list[str] | None:
    return _state(match, situation) if situation.has_head else None


def _author(match: re.Match[str], situation: Situation) -> list[str] | None:
    given = match.group("login")
    who = login(given)
    if who is None:
        return None
    if not (given.startswith("@") or who == "@me" or match.group("verb")):
        previous = situation.before(match)
        if not situation.has_head or _NOT_AN_AUTHOR_AFTER.fullmatch(previous):
            return None
    return [f"author:{who}"]


def _label(match: re.Match[str], situation: Situation) -> list[str] | None:
    value = situation.plain(match.group("label")).strip('"')
    found = qualifier("label", value)
    return [found] if found and situation.has_head else None


def _known_label(match: re.Match[str], _situation: Situation) -> list[str] | None:
    words = " ".join(match.group("label").lower().split())
    return [f'label:"{_LABELS.get(words, words)}"']


def _repository(match: re.Match[str], _situation: Situation) -> list[str] | None:
    return [f"repo:{match.group('repo')}"]


_PLACE = {"title": "title", "titles": "title", "body": "body", "description": "body", "comments": "comments"}


def _place(match: re.Match[str], situation: Situation) -> list[str] | None:
    return [f"in:{_PLACE[match.group('place').lower()]}"] if situation.has_head or match.group("with") else None


def _singular(match: re.Match[str], situation: Situation) -> list[str] | None:
    """`open bug`, when a rule has taken the word before; `issue with login` stays text."""
    if situation.before(match) != BARRIER:
        return None
    word = match.group().lower()
    if word == "bug":
        return ["is:issue", "label:bug"]
    return ["is:issue"] if word in ("issue", "ticket") else ["is:pr"]


_ANY_HEAD = rf"(?:{ISSUE_HEAD}|{_SINGULAR})"
_FILLERS = r"(?:(?:all|any|the|show|list|find|get|me|search|for|please|my|our)\s+)*"
REPOSITORY = rule(
    "repository",
    r"(?:in|of|from)\s+(?:the\s+)?repo(?:sitory)?\s+(?P<repo>[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+)" + END,
    _repository,
)
ISSUE_RULES: tuple[Rule, ...] = (
    REPOSITORY,
    *date_rules(Kind.ISSUES),
    rule(
        "author",
        rf"(?:(?P<verb>created|opened|authored|written|filed|reported|submitted|raised)\s+)?by\s+(?P<login>{LOGIN}){PHRASE_END}",
        _author,
    ),
    rule("author_me", rf"my(?=\s+(?:{_STATE}\s+)*{_ANY_HEAD}{END})", always("author:@me")),
    rule("assignee_none", rf"assigned\s+to\s+(?:nobody|no\s+one|no-one){END}", with_head("no:assignee")),
    rule(
        "assignee_none",
        rf"(?:with\s+no|without(?:\s+an)?|with\s+no\s+one\s+as)\s+assignees?{END}",
        with_head("no:assignee"),
    ),
    person_rule("assignee", r"assigned\s+to", "assignee"),
    person_rule(
        "review_requested",
        r"(?:(?:awaiting|waiting\s+for|needing)\s+(?:a\s+)?review|review\s+requested)\s+(?:from|by)",
        "review-requested",
    ),
    person_rule("reviewed_by", r"(?:reviewed|approved)\s+by", "reviewed-by"),
    person_rule("commenter", r"(?:commented\s+(?:on\s+)?by|with\s+comments\s+(?:by|from|of))", "commenter"),
    person_rule("mentions", r"(?:mentioning|that\s+mention|which\s+mention)", "mentions"),
    person_rule("involves", r"(?:involving|that\s+involve|which\s+involve)", "involves"),
    rule(
        "review_required",
        rf"(?:awaiting|needing|waiting\s+for|that\s+need)\s+(?:a\s+)?reviews?{PHRASE_END}",
        with_head("review:required"),
    ),
    rule(
        "changes_requested",
        rf"with\s+(?:requested\s+changes|changes\s+requested){END}",
        with_head("review:changes_requested"),
    ),
    rule(
        "known_label",
        rf"(?:(?:labell?ed|tagged)\s+(?:as\s+|with\s+)?)?(?P<label>good\s+first\s+issues?|help\s+wanted){END}",
        _known_label,
    ),
    rule(
        "label",
        rf"(?:(?:labell?ed|tagged)\s+(?:as\s+|with\s+)?|with\s+(?:the\s+)?label\s+)(?P<label>{WORD}){END}",
        _label,
    ),
    rule("label_none", rf"(?:without|with\s+no)\s+(?:a\s+|any\s+)?labels?{END}", with_head("no:label")),
    rule("milestone_none", rf"(?:without|with\s+no)\s+(?:a\s+)?milestones?{END}", with_head("no:milestone")),
    *count_rules({"comments?": "comments", "reactions?": "reactions"}),
    rule(
        "in",
        rf"(?P<with>with\s+(?={WORD}\s+in))?in\s+(?:the|their|its)\s+(?P<place>titles?|body|description|comments){PHRASE_END}",
        _place,
    ),
    rule("any_state", rf"open\s+(?:and|or)\s+closed(?=\s+{_ANY_HEAD}{END})", always()),
    rule("state", rf"(?P<state>{_STATE})(?=\s+(?:(?:{_STATE}|{BARRIER})\s+)*{_ANY_HEAD}{END})", _state),
    rule(
        "state",
        rf"(?:(?<!.)|(?<={BARRIER}\s)){_FILLERS}(?P<state>open|closed|merged|draft)(?=\s+{_NO_STATE_BEFORE}(?:{WORD}\s+){{1,2}}{ISSUE_HEAD}{END})",
        _state,
    ),
    rule(
        "state_not",
        rf"(?:(?:that|which)\s+(?:are|were|is)\s+)?not\s+(?:yet\s+)?closed(?:\s+yet)?{PHRASE_END}",
        with_head("is:open"),
    ),
    rule(
        "state_not",
        rf"(?:(?:that|which)\s+(?:are|were|is)\s+)?not\s+(?:yet\s+)?merged(?:\s+yet)?{PHRASE_END}",
        with_head("is:unmerged"),
    ),
    rule(
        "state_after",
        rf"(?:(?:that|which)\s+)?(?:(?:are|is|were)\s+)(?:still\s+|already\s+)?(?P<state>{_STATE}){PHRASE_END}",
        _state_after,
    ),
    rule("state_after", rf"(?:still|already)\s+(?P<state>{_STATE}){PHRASE_END}", _state_after),
    rule("any_type", rf"issues\s+(?:and|or)\s+{_PULLS}{END}", always()),
    rule("bugs", _BUGS + END, always("is:issue", "label:bug")),
    rule("feature_requests", rf"feature\s+requests{END}", always("is:issue", "label:enhancement")),
    rule("pull_requests", _PULLS + END, always("is:pr")),
    rule("issues", rf"(?:issues|tickets){END}", always("is:issue")),
    rule("singular", _SINGULAR + END, _singular),
)

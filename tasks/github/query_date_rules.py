"""Rules of smart search for time: `merged last week`, `since March 2026`, `older than 30 days`, `between … and …`."""

import re
from collections.abc import Callable
from datetime import date

from tasks.github import query_dates
from tasks.github.query_dates import EXACT, MOMENT, UNIT, Period, back, period
from tasks.github.query_rule import PHRASE_END, Kind, Rule, Situation, rule

_FIELDS: dict[Kind, dict[str, str]] = {
    Kind.ISSUES: {
        **dict.fromkeys(("created", "opened", "filed", "reported", "submitted", "raised"), "created"),
        **dict.fromkeys(("updated", "changed", "modified", "active"), "updated"),
        **{"closed": "closed", "fixed": "closed", "resolved": "closed", "merged": "merged"},
    },
    Kind.REPOSITORIES: {
        **dict.fromkeys(("created", "started"), "created"),
        **dict.fromkeys(("updated", "changed", "pushed", "pushed to", "active", "maintained"), "pushed"),
    },
    Kind.USERS: dict.fromkeys(("created", "joined", "registered"), "created"),
    Kind.CODE: {},
}
_DEFAULT_FIELD = "created"
Reader = Callable[[dict[str, str], date], Period | None]
"""From the named parts of a match, and today, to the days that are meant."""


def date_rules(kind: Kind) -> tuple[Rule, ...]:
    """The rules for what is searched; code has no dates."""
    fields = _FIELDS[kind]
    if not fields:
        return ()
    verbs = "|".join(sorted(map(re.escape, fields), key=len, reverse=True))
    verb = (
        r"(?:(?:(?:that|which|who)\s+)?(?:(?:is|are|was|were|has\s+been|have\s+been)\s+)?(?:last\s+)?"
        rf"(?P<verb>{verbs})\s+)?"
    )

    def dated(name: str, pattern: str, read: Reader, *, surely: bool = False) -> Rule:
        def emit(match: re.Match[str], situation: Situation) -> list[str] | None:
            parts = {part: value.lower() for part, value in match.groupdict().items() if value}
            field = fields.get(" ".join(parts.get("verb", "").split()), "")
            if not (surely or field or situation.has_head or EXACT.fullmatch(parts.get("moment", ""))):
                return None
            found = read(parts, situation.today)
            return None if found is None else [f"{field or _DEFAULT_FIELD}:{found.value}"]

        return rule(name, verb + pattern + PHRASE_END, emit)

    rolling = rf"(?:the\s+)?(?:last|past|previous)\s+(?:(?P<count>\d{{1,4}})\s+)?(?P<unit>{UNIT})s?"
    age = rf"than\s+(?:(?P<count>\d{{1,4}})|an?)\s+(?P<unit>{UNIT})s?"
    from_to = rf"(?P<first>{MOMENT})\s+(?:and|to|until|till)\s+(?P<last>{MOMENT})"
    moment = rf"(?P<moment>{MOMENT})"
    return (
        dated("date_between", rf"(?:between|from)\s+{from_to}", _from_to, surely=True),
        dated("date_older", rf"older\s+{age}", lambda parts, today: Period(None, _back(parts, today))),
        dated("date_newer", rf"(?:newer|younger)\s+{age}", lambda parts, today: Period(_back(parts, today), None)),
        dated("date_within_last", rf"(?:in|within|during|over|from|since)\s+{rolling}", _rolling, surely=True),
        dated("date_last", rolling, _rolling),
        dated("date_since", rf"(?:since|from|starting(?:\s+from|\s+in)?)\s+{moment}", _moment(query_dates.since)),
        dated("date_after", rf"(?:after|later\s+than)\s+{moment}", _moment(query_dates.after)),
        dated("date_before", rf"(?:before|earlier\s+than|prior\s+to)\s+{moment}", _moment(query_dates.before)),
        dated("date_until", rf"(?:until|till|up\s+to)\s+{moment}", _moment(query_dates.until)),
        dated("date_in", rf"(?:in|on|during)\s+{moment}", _moment(lambda found: found)),
        dated("date_day", rf"(?P<day>today|yesterday|this\s+(?:week|month|year)|\d{{1,4}}\s+{UNIT}s?\s+ago)", _day),
    )


def _back(parts: dict[str, str], today: date) -> date:
    return back(today, int(parts.get("count", "1")), parts["unit"])


def _rolling(parts: dict[str, str], today: date) -> Period:
    return Period(_back(parts, today), None)


def _from_to(parts: dict[str, str], today: date) -> Period | None:
    first, last = period(parts["first"], today), period(parts["last"], today)
    if first is None or last is None or first.first is None or last.last is None or first.first > last.last:
        return None
    return Period(first.first, last.last)


def _day(parts: dict[str, str], today: date) -> Period | None:
    return period(parts["day"], today)


def _moment(side: Callable[[Period], Period | None]) -> Reader:
    def read(parts: dict[str, str], today: date) -> Period | None:
        found = period(parts["moment"], today)
        return None if found is None else side(found)

    return read

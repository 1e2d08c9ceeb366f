"""Dates in words, as the ranges of GitHub's search. `today` comes in; weeks, months and years roll back from it."""

import calendar
import re
from datetime import date, timedelta

import msgspec

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_SHORT_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_MONTH = "(?:" + "|".join([*_MONTHS, *_SHORT_MONTHS]) + ")"
UNIT = "(?:day|week|month|quarter|year)"
_EARLIEST_YEAR = 2007
"""GitHub began in 2007; nothing there is older, but for imported commits, which are not searched by date."""

MOMENT = (
    rf"(?:\d{{4}}-\d{{2}}-\d{{2}}|{_MONTH}\s+\d{{4}}|\d{{4}}-\d{{2}}|\d{{4}}|{_MONTH}|today|yesterday"
    rf"|(?:last|this)\s+(?:week|month|year)|\d{{1,4}}\s+{UNIT}s?\s+ago)"
)
"""Pattern of what `period` understands."""
EXACT = re.compile(r"\d{4}(-\d{2}){0,2}|.*\s\d{4}|.*\sago", re.IGNORECASE | re.DOTALL)
"""A moment that can hardly be anything but a date."""


class Period(msgspec.Struct, frozen=True):
    """From the first to the last day; None: open on that side."""

    first: date | None
    last: date | None

    @classmethod
    def of(cls, value: str) -> "Period | None":
        """The other way round from `value`; None for any other range."""
        first, dots, last = value.removeprefix(">=").removeprefix("<=").partition("..")
        try:
            days = date.fromisoformat(first), date.fromisoformat(last or first)
        except ValueError:
            return None
        if dots or value[0] not in "<>":
            return cls(*days)
        return cls(days[0], None) if value[0] == ">" else cls(None, days[0])

    @property
    def value(self) -> str:
        """As the value of a qualifier."""
        if self.first and self.last:
            return self.first.isoformat() if self.first == self.last else f"{self.first}..{self.last}"
        return f">={self.first}" if self.first else f"<={self.last}"


def both(one: Period, other: Period) -> Period | None:
    """The days that lie in both; None when there is none."""
    first = max((day for day in (one.first, other.first) if day), default=None)
    last = min((day for day in (one.last, other.last) if day), default=None)
    if first and last and first > last:
        return None
    return Period(first, last)


def since(found: Period) -> Period | None:
    """From its first day on."""
    return Period(found.first, None) if found.first else None


def after(found: Period) -> Period | None:
    """From the day after its last one on."""
    return Period(found.last + timedelta(days=1), None) if found.last else None


def before(found: Period) -> Period | None:
    """Up to the day before its first one."""
    return Period(None, found.first - timedelta(days=1)) if found.first else None


def until(found: Period) -> Period | None:
    """Up to its last day."""
    return Period(None, found.last) if found.last else None


def period(words: str, today: date) -> Period | None:
    """The days that a moment in words stands for; None when there are no such days."""
    text = " ".join(words.lower().split())
    if text == "today":
        return Period(today, today)
    if text == "yesterday":
        return Period(today - timedelta(days=1), today - timedelta(days=1))
    if text.startswith("last "):
        return Period(back(today, 1, text[5:]), today)
    if text.startswith("this "):
        return Period(_beginning(today, text[5:]), today)
    if text.endswith(" ago"):
        count, unit, _ = text.split()
        day = back(today, int(count), unit)
        return Period(day, day)
    return _of_the_calendar(text, today)


def back(today: date, count: int, unit: str) -> date:
    """The day so many units ago; the last of the month when the month is shorter."""
    unit = unit.rstrip("s")
    if unit in ("day", "week"):
        days = count * (7 if unit == "week" else 1)
        return today - timedelta(days=min(days, (today - date(_EARLIEST_YEAR, 1, 1)).days))
    months = today.year * 12 + today.month - 1 - count * {"month": 1, "quarter": 3, "year": 12}[unit]
    year, month = max(months // 12, _EARLIEST_YEAR), months % 12 + 1
    return date(year, month, min(today.day, calendar.monthrange(year, month)[1]))


def _beginning(today: date, unit: str) -> date:
    if unit == "week":
        return today - timedelta(days=today.weekday())
    return today.replace(day=1) if unit == "month" else today.replace(month=1, day=1)


def _of_the_calendar(text: str, today: date) -> Period | None:
    year_found = re.search(r"\d{4}", text)
    if year_found and not _EARLIEST_YEAR <= int(year_found.group()) <= today.year + 1:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = date.fromisoformat(text)
            return Period(day, day)
        if re.fullmatch(r"\d{4}", text):
            return Period(date(int(text), 1, 1), date(int(text), 12, 31))
        if re.fullmatch(r"\d{4}-\d{2}", text):
            return _month(int(text[:4]), int(text[5:]))
        name, _, year_text = text.partition(" ")
        month = _MONTHS.get(name) or _SHORT_MONTHS[name]
        if year_text:
            return _month(int(year_text), month)
        return _month(today.year if month <= today.month else today.year - 1, month)
    except ValueError:
        return None


def _month(year: int, month: int) -> Period:
    return Period(date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1]))

"""The table of docs/reliability.md, from the figures of a run."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin (make chaos-report) -->", "<!-- table: end -->"
HEAD = (
    *("fault", "system", "calls", "lost", "second effects", "effects nobody asked for", "unknown"),
    *("safe to repeat, not succeeded", "next success", "all open calls ended", "goodput"),
)
NUMBERS_FROM = 2


def table(figures: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """Markdown; counts are per 1,000 accepted calls, but for the number of calls itself."""
    lines = [_line(HEAD), _line(["---"] * NUMBERS_FROM + ["---:"] * (len(HEAD) - NUMBERS_FROM))]
    for one in figures:
        calls = one["accepted"]
        cells = [
            titles[one["fault"]],
            one["system"],
            f"{calls:,}",
            *(
                _per_thousand(one[name], calls)
                for name in ("lost", "second_effects", "uncalled", "unknown", "failed_safe")
            ),
            _seconds(one["next_success_s"]),
            _seconds(one["all_ended_s"]),
            "-" if one["goodput"] is None else f"{one['goodput']:.0%}",
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def replace_table(text: str, page: Path = PAGE) -> None:
    """Put it between the two marks of the page."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no marks for the table")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _per_thousand(count: int, calls: int) -> str:
    if not count:
        return "0"
    return f"{count / calls * 1000:.1f}"


def _seconds(times: Sequence[float | None]) -> str:
    """Median / longest."""
    if not times:
        return "-"
    happened = sorted(one for one in times if one is not None)
    if len(happened) < len(times):
        return f"never, {len(times) - len(happened)} of {len(times)} times"
    return f"{median(happened):.1f} / {happened[-1]:.1f} s"

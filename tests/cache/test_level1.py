"""Level 1 stays within its bounds whatever comes, and forgets what it must."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from cache.hearing import Hearing
from cache.level1 import Level1
from cache.seal import tag_digest

MIB = 1024 * 1024


def put(level: Level1[str], name: str, size_bytes: int = 1000, tags: tuple[str, ...] = (), until: float = 100) -> None:
    level.put(name, name, size_bytes=size_bytes, tags=tags, until=until)


def test_an_entry_is_given_until_its_time_is_over() -> None:
    level: Level1[str] = Level1(MIB)
    put(level, "a", until=10)

    assert level.get("a", 9.9) == "a"
    assert level.get("a", 10) is None
    assert level.get("b", 0) is None


def test_an_endless_stream_of_different_names_stays_within_the_bound() -> None:
    level: Level1[str] = Level1(MIB)

    for number in range(20_000):
        put(level, str(number), tags=(str(number % 100), str(number)))
        assert level.size_bytes <= MIB

    assert len(level) > 300
    assert level.evicted > 19_000


def test_what_is_asked_for_again_outlives_a_stream_of_what_is_not() -> None:
    level: Level1[str] = Level1(MIB)
    for number in range(50):
        put(level, f"loved {number}")
        level.get(f"loved {number}", 0)

    for number in range(5000):
        put(level, f"scan {number}")
        level.get(f"loved {number % 50}", 0)

    assert all(level.get(f"loved {number}", 0) for number in range(50))


def test_a_skewed_load_is_served_better_than_by_dropping_the_oldest() -> None:
    draw = random.Random(7)
    weights = [1 / (rank + 1) ** 0.9 for rank in range(5000)]
    level: Level1[str] = Level1(400 * 2024)
    oldest: dict[str, None] = {}
    hits = oldest_hits = 0

    for number, rank in enumerate(draw.choices(range(5000), weights, k=40_000)):
        name = f"once {number}" if number % 7 == 0 else str(rank)
        hits += level.get(name, 0) is not None
        put(level, name)
        oldest_hits += name in oldest
        oldest.pop(name, None)
        oldest[name] = None
        if len(oldest) > 400:
            del oldest[next(iter(oldest))]

    assert hits > 1.1 * oldest_hits


def test_what_is_too_large_is_not_kept() -> None:
    level: Level1[str] = Level1(MIB)
    put(level, "a", size_bytes=10)

    put(level, "a", size_bytes=MIB // 2)

    assert level.get("a", 0) is None
    assert level.size_bytes == 0


def test_a_tag_drops_all_that_has_it() -> None:
    level: Level1[str] = Level1(MIB)
    put(level, "a", tags=("x", "y"))
    put(level, "b", tags=("y",))
    put(level, "c", tags=("z",))

    level.drop_tag("y")

    assert [name for name in "abc" if level.get(name, 0)] == ["c"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.integers(1, 9000)), max_size=300))
def test_its_books_are_right_after_any_sequence(steps: list[tuple[int, int, int]]) -> None:
    level: Level1[str] = Level1(100_000)

    for what, number, size_bytes in steps:
        if what == 0:
            put(level, str(number), size_bytes=size_bytes, tags=(str(number % 5),))
        elif what == 1:
            level.get(str(number), 0)
        elif what == 2:
            level.drop(str(number))
        else:
            level.drop_tag(str(number % 5))
        assert 0 <= level.size_bytes <= 100_000

    for tag in range(5):
        level.drop_tag(str(tag))
    assert (len(level), level.size_bytes) == (0, 0)


def test_what_changed_on_the_way_is_noticed() -> None:
    level: Level1[str] = Level1(MIB)
    hearing = Hearing(level)
    asked = hearing.mark()

    hearing.changed("ts:cached:other")
    assert hearing.unheard(asked, "a", ("x", "y"))
    hearing.changed(f"ts:generation:{tag_digest('x')}")
    assert not hearing.unheard(asked, "a", ("x", "y"))
    assert hearing.unheard(asked, "a", ("y",))
    hearing.changed("ts:cached:a")
    assert not hearing.unheard(asked, "a", ("y",))
    assert hearing.unheard(hearing.mark(), "a", ("x", "y"))


def test_what_may_have_changed_unheard_counts_as_changed() -> None:
    level: Level1[str] = Level1(MIB)
    hearing = Hearing(level)
    put(level, "a")
    asked = hearing.mark()

    hearing.lost()

    assert not hearing.unheard(asked, "a", ())
    assert level.get("a", 0) is None


def test_news_too_old_to_be_remembered_count_as_changes() -> None:
    hearing = Hearing(Level1[str](MIB))
    asked = hearing.mark()

    for number in range(20_000):
        hearing.changed(f"ts:cached:{number}")

    assert not hearing.unheard(asked, "a", ())
    assert hearing.unheard(hearing.mark(), "a", ())


def test_news_drop_what_they_are_about() -> None:
    level: Level1[str] = Level1(MIB)
    hearing = Hearing(level)
    for name, tags in (("a", ("x",)), ("b", ("y",)), ("c", ())):
        put(level, name, tags=tuple(map(tag_digest, tags)))

    hearing.changed(f"ts:generation:{tag_digest('x')}")
    hearing.changed("ts:cached:c")

    assert [name for name in "abc" if level.get(name, 0)] == ["b"]

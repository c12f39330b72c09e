"""Counting by name, and reporting in batches that are added once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from trunkline.stats import OTHER, TOTAL, Counters, counted_name
from trunkline.stats.counters import MOST_KNOWN, MOST_NAMES

PROCESS = "0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        ("orders", "orders"),
        ("thumbs.small", "thumbs.small"),
        (f"specific.{PROCESS}!1", "specific!"),
        (f"specific.{PROCESS}!", "specific!"),
        (f"my.own.prefix.{PROCESS}!ff", "my.own.prefix!"),
        ("custom!foobar", "custom!"),
        ("specific!", "specific!"),
    ],
)
def test_a_channel_is_counted_by_its_name_and_a_process_specific_one_by_its_prefix(channel: str, name: str) -> None:
    assert counted_name(channel) == name


def test_the_totals_are_the_sums_over_all_channels() -> None:
    counters = Counters()
    counters.of("a").sent += 2
    counters.of(f"specific.{PROCESS}!1").sent += 3
    counters.of(f"specific.{PROCESS}!2").received += 1
    counters.other.dropped += 4
    assert (counters.sent, counters.received, counters.group_dropped, counters.full) == (5, 1, 4, 0)
    assert counters.tallies["specific!"].values() == (3, 1, 0, 0, 0)


def test_however_many_names_there_are_what_is_kept_is_bounded_and_nothing_is_uncounted() -> None:
    counters, names = Counters(), MOST_KNOWN + 1000
    for number in range(names):
        counters.of(f"job-{number}").sent += 1
    assert len(counters.tallies) == MOST_NAMES + 1
    assert counters.tallies[OTHER].sent == names - MOST_NAMES
    assert counters.sent == names
    assert len(counters._known) <= MOST_KNOWN
    assert counters.of("job-0").sent == 1, "a name that was counted apart stays so"


def test_a_batch_comes_again_as_it_is_until_it_is_confirmed() -> None:
    counters = Counters()
    counters.of("a").sent += 2
    first = counters.journal.batch()
    assert dict(first.added) == {"a": (2, 0, 0, 0, 0, 0, 0), TOTAL: (2, 0, 0, 0, 0, 0, 0)}
    counters.of("a").sent += 1
    counters.group_sent += 5
    assert counters.journal.batch() is first
    counters.journal.confirm(first.number)
    second = counters.journal.batch()
    assert dict(second.added) == {"a": (1, 0, 0, 0, 0, 0, 0), TOTAL: (1, 0, 0, 0, 0, 5, 0)}
    assert second.number > first.number
    counters.journal.confirm(first.number)  # a late one
    assert counters.journal.batch() is second
    counters.journal.confirm(second.number)
    assert counters.journal.batch().added == ()


def test_whatever_gets_lost_on_the_way_what_is_added_up_once_a_number_is_exact() -> None:
    generator, counters = random.Random(5), Counters()
    seen: set[int] = set()
    sums: Counter[str] = Counter()
    for _ in range(2000):
        counters.of(generator.choice("abc")).sent += generator.randrange(3)
        if generator.random() < 0.3:
            batch = counters.journal.batch()
            if generator.random() < 0.7 and batch.number not in seen:  # the request arrived
                seen.add(batch.number)
                sums.update({name: values[0] for name, values in batch.added})
            if batch.number in seen and generator.random() < 0.6:  # the reply arrived
                counters.journal.confirm(batch.number)
    for _ in range(2):
        batch = counters.journal.batch()
        if batch.number not in seen:
            seen.add(batch.number)
            sums.update({name: values[0] for name, values in batch.added})
        counters.journal.confirm(batch.number)
    assert sums[TOTAL] == counters.sent
    assert {name: sums[name] for name in "abc"} == {name: counters.of(name).sent for name in "abc"}


def test_after_a_fork_counting_begins_anew_under_another_name() -> None:
    counters = Counters()
    counters.of("a").sent += 2
    who = counters.journal.id
    counters.clear()
    assert counters.sent == 0
    assert counters.journal.batch().added == ()
    assert counters.journal.id != who

from __future__ import annotations

from trunkline.codec import Shared
from trunkline.ipc.fanout import FanOut, Unread
from trunkline.stats import Counters


def item(text: bytes, deadline: int = 100, after_direct: bool = False) -> Unread:
    return Unread(deadline, Shared(text), after_direct)


def take_any(fanout: FanOut, waited: tuple[str, ...], now: int) -> tuple[str, bytes] | None:
    taken = fanout.take_any("a!", waited, now)
    return taken and (taken[0], taken[1].body)


def test_a_channel_gives_its_messages_in_order_and_is_forgotten_when_empty() -> None:
    fanout = FanOut(Counters())
    for text in (b"1", b"2"):
        assert fanout.put("a!1", item(text), 0, 9)
    taken = [fanout.take("a!1", 0) for _ in range(3)]
    assert [shared and shared.body for shared in taken] == [b"1", b"2", None]
    assert len(fanout) == 0
    assert fanout._ready == {}


def test_a_full_channel_drops_and_counts_and_expired_messages_make_room() -> None:
    counters = Counters()
    fanout = FanOut(counters)
    assert fanout.put("a!1", item(b"1", deadline=10), 0, 1)
    assert not fanout.put("a!1", item(b"2"), 0, 1)
    assert fanout.put("a!1", item(b"3"), 10, 1)
    assert not fanout.put("a!2", item(b"4"), 10, 0)
    assert (counters.group_dropped, counters.expired) == (2, 1)


def test_channels_of_one_prefix_take_turns_and_those_with_a_receiver_are_left() -> None:
    fanout = FanOut(Counters())
    for channel in ("a!1", "a!2", "a!3", "b!1"):
        for text in (b"1", b"2"):
            fanout.put(channel, item(text), 0, 9)
    taken = [take_any(fanout, ("a!2",), 0) for _ in range(5)]
    assert taken == [("a!1", b"1"), ("a!3", b"1"), ("a!1", b"2"), ("a!3", b"2"), None]


def test_what_has_expired_is_dropped_and_the_channels_are_named() -> None:
    fanout = FanOut(Counters())
    fanout.put("a!1", item(b"1", deadline=10), 0, 9)
    fanout.put("a!1", item(b"2", deadline=30), 0, 9)
    fanout.put("a!2", item(b"3", deadline=10), 0, 9)
    assert sorted(fanout.drop_expired(20)) == ["a!1", "a!2"]
    assert take_any(fanout, (), 20) == ("a!1", b"2")
    assert len(fanout) == 0


def test_direct_messages_go_first_only_where_there_were_some_before() -> None:
    fanout = FanOut(Counters())
    assert fanout.direct_before("a!1") is None
    fanout.put("a!1", item(b"1"), 0, 9)
    fanout.put("a!1", item(b"2", deadline=70, after_direct=True), 0, 9)
    assert fanout.direct_before("a!1") == 0
    fanout.take("a!1", 0)
    assert fanout.direct_before("a!1") == 70

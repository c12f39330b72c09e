"""The contract on channels_redis' core layer, as a reference: what it fails is written down, strictly."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from support.servers import RedisServer
from trunkline.conformance import Capabilities, ChannelLayerContract

pytestmark = pytest.mark.redis

CANCELLED = "a message that a cancelled receive had taken from the server is lost"
CANCELLED_TWO = "a cancelled receive goes on, or the message it was taking is given to two receivers"
CODEC = "msgpack raises OverflowError or UnicodeEncodeError, or takes it (integers up to 2**64 - 1, any key)"
EMPTY_GROUP = "a send to an empty group looks at nothing"
NO_CLOSE = "it has no close()"
PREFIX = "receives from the prefix wait for ever"
REGEX = r"the pattern's $ matches before a final newline, and \d and \w match more than ASCII"
SHARED = "the channels of a process share one count, as the specification has it"
WRONG_PREFIX = "names of other processes are an AssertionError"

EXPECTED_FAILURES = {
    "test_the_layer_carries_its_exceptions": "it has neither attribute",
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[no_dict]": "it is an AssertionError",
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[a_key_that_is_no_text]": CODEC,
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[an_integer_beyond_64_bits]": CODEC,
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[text_that_is_no_unicode]": CODEC,
    "test_a_group_message_that_cannot_travel_is_a_type_error_and_sends_nothing": EMPTY_GROUP,
    "test_a_name_that_only_looks_legal_is_a_type_error": REGEX,
    "test_receiving_from_the_prefix_gets_messages_of_every_name_with_it": PREFIX,
    "test_receiving_from_the_prefix_waits_for_a_message": PREFIX,
    "test_a_receive_of_the_full_name_goes_before_one_of_the_prefix": PREFIX,
    "test_a_name_with_a_mark_that_no_process_owns_is_a_channel_of_its_own": WRONG_PREFIX,
    "test_any_process_may_read_a_name_with_a_mark_that_no_process_owns": WRONG_PREFIX,
    "test_receiving_another_processs_channel_is_a_value_error": WRONG_PREFIX,
    "test_many_receivers_wait_side_by_side": "redis-py 8 allows 100 connections, and each receive takes one",
    "test_channel_full_names_the_channel_and_its_capacity": "the error is empty",
    "test_one_slow_consumer_does_not_take_its_neighbours_room": SHARED,
    "test_a_group_send_is_dropped_for_a_full_member_only": SHARED,
    "test_messages_that_reached_the_process_but_no_receiver_still_count": SHARED,
    "test_a_message_that_reached_the_process_but_no_receiver_expires_too": "what the process holds never expires",
    "test_each_member_gets_a_message_object_of_its_own": "the members of a process get the same dict",
    "test_flush_takes_messages_that_reached_the_process_but_no_receiver": "flush leaves what the process holds",
    "test_a_flush_in_another_process_empties_the_layer_for_all": "flush leaves what other processes hold",
    "test_cancelled_receives_on_a_process_specific_channel_lose_nothing": CANCELLED,
    "test_cancelled_receives_on_a_normal_channel_lose_nothing": CANCELLED,
    "test_cancelled_receives_keep_the_order_of_a_normal_channel": CANCELLED,
    "test_a_message_for_a_cancelled_receive_goes_to_another_that_waits": CANCELLED_TWO,
    "test_a_message_for_a_cancelled_receive_of_a_process_specific_channel_goes_to_another_that_waits": CANCELLED_TWO,
    "test_a_receive_waits_through_silence_and_gets_the_next_message": (
        "redis-py 8 reads with a timeout of 5 s by default, as long as the layer's blocking read"
    ),
    "test_a_closed_layer_can_be_used_again": NO_CLOSE,
    "test_a_layer_may_be_closed_twice_and_before_its_first_use": NO_CLOSE,
    "test_loops_in_two_threads_exchange_messages": "it refuses a second loop that receives",
    "test_loops_in_two_threads_share_a_normal_channel": "its locks belong to the first loop",
    "test_a_fork_after_use_shares_nothing_with_its_parent": "the process id of its names and its sockets are inherited",
}

NOT_RUN = {
    "test_processes_share_a_normal_channel_and_none_gets_a_message_twice": (
        "fails by chance: a process that begins to receive puts back what another one is just taking, so both get it"
    ),
}


@pytest.fixture
def channel_layer_config(shared_redis: list[RedisServer]) -> tuple[str, dict[str, Any]]:
    return "channels_redis.core.RedisChannelLayer", {"hosts": [shared_redis[0].url], "prefix": uuid.uuid4().hex}


@pytest.fixture
def channel_layer_capabilities() -> Capabilities:
    return Capabilities(patience=2.0)


class TestCoreRedisChannelLayer(ChannelLayerContract):
    pass

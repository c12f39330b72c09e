"""The contract on channels_redis' pub/sub layer, as a reference: what it fails is written down, strictly."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from support.servers import RedisServer
from trunkline.conformance import Capabilities, ChannelLayerContract

pytestmark = pytest.mark.redis

CODEC = "msgpack raises OverflowError or UnicodeEncodeError, or takes it (integers up to 2**64 - 1, any key)"
FOREIGN = "only the process that owns a channel can add or discard it"
LEFT = "a cancelled receive unsubscribes the channel and leaves its groups, and so loses what comes next"
LEFT_TWO = "a cancelled receive unsubscribes the channel that another receiver waits on"
NAMES = "names are not checked"
NO_CLOSE = "it has no close()"
NO_MARK = "new_channel() makes names without the mark of a process-specific channel, its own prefix first"
NOT_CHECKED = "whatever msgpack can encode is published"

EXPECTED_FAILURES = {
    "test_the_layer_carries_its_exceptions": "it has neither attribute",
    "test_a_layer_with_groups_says_so_and_tells_their_expiry": "it has no group_expiry",
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[no_dict]": NOT_CHECKED,
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[a_key_that_is_no_text]": NOT_CHECKED,
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[an_integer_beyond_64_bits]": CODEC,
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing[text_that_is_no_unicode]": CODEC,
    "test_a_group_message_that_cannot_travel_is_a_type_error_and_sends_nothing[no_dict]": NOT_CHECKED,
    "test_a_group_message_that_cannot_travel_is_a_type_error_and_sends_nothing[a_key_that_is_no_text]": NOT_CHECKED,
    "test_a_group_message_that_cannot_travel_is_a_type_error_and_sends_nothing[an_integer_beyond_64_bits]": CODEC,
    "test_a_group_message_that_cannot_travel_is_a_type_error_and_sends_nothing[text_that_is_no_unicode]": CODEC,
    "test_an_illegal_name_is_a_type_error": NAMES,
    "test_a_name_that_only_looks_legal_is_a_type_error": NAMES,
    "test_a_groups_name_has_no_exclamation_mark": NAMES,
    "test_new_channel_makes_legal_process_specific_names": NO_MARK,
    "test_new_channel_begins_with_the_prefix_it_was_given": NO_MARK,
    "test_names_that_differ_in_case_or_punctuation_are_different_channels": (
        "a name that is derived from a new channel's is nobody's until somebody receives from it"
    ),
    "test_receiving_another_processs_channel_is_a_value_error": "any process may listen to any name",
    "test_processes_share_a_normal_channel_and_none_gets_a_message_twice": "each process gets every message",
    "test_another_process_can_add_and_discard_a_channel": FOREIGN,
    "test_one_process_discards_what_another_added": FOREIGN,
    "test_a_discarded_member_hears_no_more_and_the_others_do": LEFT,
    "test_flush_leaves_no_membership_and_new_ones_can_be_made": "flush forgets the channels that the process made",
    "test_cancelled_receives_on_a_process_specific_channel_lose_nothing": LEFT,
    "test_a_cancelled_receive_leaves_the_message_to_the_next_one": LEFT,
    "test_a_message_for_a_cancelled_receive_goes_to_another_that_waits": LEFT_TWO,
    "test_a_message_for_a_cancelled_receive_of_a_process_specific_channel_goes_to_another_that_waits": LEFT_TWO,
    "test_a_closed_layer_can_be_used_again": NO_CLOSE,
    "test_a_layer_may_be_closed_twice_and_before_its_first_use": NO_CLOSE,
}


@pytest.fixture
def channel_layer_config(shared_redis: list[RedisServer]) -> tuple[str, dict[str, Any]]:
    return (
        "channels_redis.pubsub.RedisPubSubChannelLayer",
        {"hosts": [shared_redis[0].url], "prefix": uuid.uuid4().hex[:12]},
    )


@pytest.fixture
def channel_layer_capabilities() -> Capabilities:
    unbounded = "it has no such option"
    return Capabilities(
        patience=2.0,
        loops=False,
        persistence=False,
        prefix_receive=False,
        capacity=False,
        channel_capacity=False,
        expiry=False,
        group_expiry=False,
        reasons={
            "loops": "a channel belongs to the event loop that made it",
            "prefix_receive": "its names have no prefix in common",
            "persistence": "it publishes, and nothing is kept for who does not listen",
            **dict.fromkeys(("capacity", "channel_capacity", "expiry", "group_expiry"), unbounded),
        },
    )


class TestPubSubChannelLayer(ChannelLayerContract):
    pass

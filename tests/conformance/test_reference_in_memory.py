"""The contract on Channels' in-memory layer, as a reference: what it fails is written down, strictly."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.conformance import Capabilities, ChannelLayerContract

DEAF = "a cancelled receive drops the queue that another receiver waits on"
NO_CHECK = "messages are not checked, only copied"
PREFIX = "each full name has a queue of its own, and the prefix is one more name"
REGEX = r"the pattern's $ matches before a final newline, and \d and \w match more than ASCII"
EXPIRED_COUNT = "expired messages are removed when somebody receives or sends to a group, and count until then"

EXPECTED_FAILURES = {
    "test_the_layer_carries_its_exceptions": "it has neither attribute",
    "test_a_tuple_arrives_as_a_list": "messages are copied, never encoded",
    "test_a_message_that_cannot_travel_is_a_type_error_and_sends_nothing": NO_CHECK,
    "test_a_group_message_that_cannot_travel_is_a_type_error_and_sends_nothing": NO_CHECK,
    "test_a_message_that_holds_itself_is_refused_and_sends_nothing": NO_CHECK,
    "test_a_name_that_only_looks_legal_is_a_type_error": REGEX,
    "test_receiving_from_the_prefix_gets_messages_of_every_name_with_it": PREFIX,
    "test_receiving_from_the_prefix_waits_for_a_message": PREFIX,
    "test_a_receive_of_the_full_name_goes_before_one_of_the_prefix": PREFIX,
    "test_the_first_pattern_that_matches_sets_a_channels_capacity": "channel_capacity is kept as it was given",
    "test_channel_full_names_the_channel_and_its_capacity": "it names the channel only",
    "test_each_message_expires_by_itself_and_gives_its_room_back": EXPIRED_COUNT,
    "test_a_full_channel_that_nobody_reads_has_room_again_when_its_messages_expired": EXPIRED_COUNT,
    "test_a_message_for_a_cancelled_receive_goes_to_another_that_waits": DEAF,
    "test_a_message_for_a_cancelled_receive_of_a_process_specific_channel_goes_to_another_that_waits": DEAF,
    "test_receivers_of_a_loop_that_closed_without_a_word_take_nothing": "the queue stays bound to the closed loop",
}


@pytest.fixture
def channel_layer_config() -> tuple[str, dict[str, Any]]:
    return "channels.layers.InMemoryChannelLayer", {}


@pytest.fixture
def channel_layer_capabilities() -> Capabilities:
    return Capabilities(
        patience=2.0,
        processes=False,
        fork=False,
        threads=False,
        reasons={
            "processes": "it lives in the memory of one process",
            "threads": "its queues are asyncio's and belong to one loop at a time",
        },
    )


class TestInMemoryChannelLayer(ChannelLayerContract):
    pass

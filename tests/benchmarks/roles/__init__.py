"""What each of the two processes of a row does, through the public channel layer API alone.

Every role is a coroutine function of the layer, the link to the other process and the load, and returns what it
counted. Times are CLOCK_MONOTONIC, which all processes of one machine share.
"""

from __future__ import annotations

from benchmarks.roles.answers import answerer, answerer_one, asker, asker_one
from benchmarks.roles.bare import (
    bare_answerer,
    bare_answerer_one,
    bare_asker,
    bare_asker_one,
    bare_group_member,
    bare_group_sender,
    bare_joiner_distinct,
    bare_prover_distinct,
    bare_queue_receiver,
    bare_queue_sender,
    bare_thread_member,
    bare_thread_sender,
)
from benchmarks.roles.common import Role
from benchmarks.roles.groups import group_member, group_sender
from benchmarks.roles.joins import joiner_distinct, joiner_one_group, prover_distinct, prover_one_group
from benchmarks.roles.members import growing_member, growing_sender
from benchmarks.roles.queue import queue_receiver, queue_sender
from benchmarks.roles.threads import thread_member, thread_sender

ROLES: dict[str, Role] = {
    role.__name__: role
    for role in (
        queue_sender,
        queue_receiver,
        asker,
        answerer,
        asker_one,
        answerer_one,
        group_sender,
        group_member,
        joiner_one_group,
        prover_one_group,
        joiner_distinct,
        prover_distinct,
        thread_sender,
        thread_member,
        growing_sender,
        growing_member,
        bare_queue_sender,
        bare_queue_receiver,
        bare_asker,
        bare_answerer,
        bare_asker_one,
        bare_answerer_one,
        bare_group_sender,
        bare_group_member,
        bare_joiner_distinct,
        bare_prover_distinct,
        bare_thread_sender,
        bare_thread_member,
    )
}

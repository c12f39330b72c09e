"""What one process holds of its own process-specific channels: unread messages, waiting receivers, group members.

Pure bookkeeping shared by the layers: no I/O and no clock of its own.
"""

from trunkline.mailbox.box import Body, Group, OwnChannel
from trunkline.mailbox.mailbox import Mailbox
from trunkline.mailbox.waiting import NextTurn, Waiter, fail_one, wake, wake_one

__all__ = ["Body", "Group", "Mailbox", "NextTurn", "OwnChannel", "Waiter", "fail_one", "wake", "wake_one"]

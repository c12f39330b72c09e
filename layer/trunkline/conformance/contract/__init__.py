"""The contract, one module for each subject."""

from __future__ import annotations

from trunkline.conformance.contract.attributes import Attributes
from trunkline.conformance.contract.cancellation import Cancellation
from trunkline.conformance.contract.capacity import Capacity, FairCapacity
from trunkline.conformance.contract.delivery import Delivery, FurtherDelivery
from trunkline.conformance.contract.expiry import Expiry, FurtherExpiry
from trunkline.conformance.contract.flush import Close, Flush
from trunkline.conformance.contract.fork import Fork
from trunkline.conformance.contract.groups import FurtherGroups, Groups
from trunkline.conformance.contract.idle import Idle
from trunkline.conformance.contract.loops import Loops
from trunkline.conformance.contract.messages import BadMessages, Messages
from trunkline.conformance.contract.naming import Naming
from trunkline.conformance.contract.otherprocesses import FurtherProcesses, Processes

__all__ = ["ChannelLayerContract", "PromisesContract", "SpecificationContract"]


class SpecificationContract(Attributes, Messages, Naming, Delivery, Capacity, Expiry, Groups, Flush, Processes):
    """What Channels' channel layer specification demands."""


class PromisesContract(
    BadMessages,
    FurtherDelivery,
    FairCapacity,
    FurtherExpiry,
    FurtherGroups,
    Cancellation,
    Idle,
    Close,
    Loops,
    FurtherProcesses,
    Fork,
):
    """What Trunkline's layers promise beyond the specification."""


class ChannelLayerContract(SpecificationContract, PromisesContract):
    """The specification and Trunkline's further promises."""

"""What a layer counts about itself: counters, what is reported of them, the records that are read, limited warnings."""

from __future__ import annotations

from trunkline.stats.counters import COUNTED, OTHER, TOTAL, Counters, Tally, counted_name
from trunkline.stats.journal import Batch, Journal
from trunkline.stats.log import WARN_EVERY, LimitedLog, report_unreadable
from trunkline.stats.records import LayerStatistics, ProcessStatistics, ShardStatistics, Statistics

__all__ = [
    "COUNTED",
    "OTHER",
    "TOTAL",
    "WARN_EVERY",
    "Batch",
    "Counters",
    "Journal",
    "LayerStatistics",
    "LimitedLog",
    "ProcessStatistics",
    "ShardStatistics",
    "Statistics",
    "Tally",
    "counted_name",
    "report_unreadable",
]

"""The judgement of configuration: plain mappings in, typed frozen objects or one clear sentence out.

Pure: no I/O, no environment, no clock, no Django. :mod:`trunkline.env` reads, this package judges.
"""

from __future__ import annotations

from trunkline.config.hosts import MAX_HOSTS, decode_hosts
from trunkline.config.judge import JUDGES, ipc_options, local_options, redis_options, sentinel_options
from trunkline.config.objects import CommonOptions, Endpoint, IPCOptions, LocalOptions, RedisOptions, SentinelService
from trunkline.config.table import CONNECTION_OPTIONS, LAYERS, OPTIONS, VARIABLES, ConnectionOption, Option, Variable
from trunkline.config.text import parse_config_text

__all__ = [
    "CONNECTION_OPTIONS",
    "JUDGES",
    "LAYERS",
    "MAX_HOSTS",
    "OPTIONS",
    "VARIABLES",
    "CommonOptions",
    "ConnectionOption",
    "Endpoint",
    "IPCOptions",
    "LocalOptions",
    "Option",
    "RedisOptions",
    "SentinelService",
    "Variable",
    "decode_hosts",
    "ipc_options",
    "local_options",
    "parse_config_text",
    "redis_options",
    "sentinel_options",
]

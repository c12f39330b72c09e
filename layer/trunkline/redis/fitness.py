"""Whether a server can carry the layer at all, judged by what it says of itself (INFO); pure."""

from __future__ import annotations

import re
from typing import NamedTuple

OLDEST = (5, 0)  # the first version with streams, and with scripts that may write after they asked for the time


class Verdict(NamedTuple):
    """What is wrong with a server.

    :ivar refusal: one sentence for the error of every operation, or empty where the layer works with it.
    :ivar warning: one sentence for the log, or empty.
    """

    refusal: str = ""
    warning: str = ""


def judge_server(label: str, info: str) -> Verdict:
    """Judge a server by the text of ``INFO server`` and ``INFO memory``; what it doesn't tell is taken to be right.

    :param label: the server's name in the sentences.
    """
    told = dict(re.findall(r"^(\w+):([^\r\n]*)", info, re.MULTILINE))
    mode, version = told.get("redis_mode", ""), told.get("redis_version", "")
    if mode == "cluster":
        return Verdict(
            f"{label} runs in cluster mode (cluster-enabled yes), which this layer can't use: name a server that "
            "doesn't, or several of them as shards in `hosts`."
        )
    if mode == "sentinel":
        return Verdict(
            f"{label} is a Sentinel, which holds no data: name the Redis server itself in `hosts`, or let "
            "trunkline.RedisSentinelChannelLayer ask the Sentinels for it."
        )
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers and numbers < OLDEST:
        return Verdict(f"{label} is Redis {version}, and the layer needs Redis 5.0 or newer, or Valkey.")
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return Verdict(
            warning=f"{label} has maxmemory-policy {policy}, which may throw away messages, memberships and the "
            "numbers that keep sends from doubling: set it to noeviction."
        )
    return Verdict()

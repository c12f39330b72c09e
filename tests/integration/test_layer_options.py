"""What making a layer with certain options does and says, and layers with different serializers side by side."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from support.servers import RedisServer
from trunkline import IPCChannelLayer, RedisChannelLayer
from trunkline.conformance.waiting import numbered, receive


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_seals_with_a_salt_of_its_own() -> None:
    script = """
import os, trunkline
kinds = (trunkline.RedisChannelLayer, trunkline.IPCChannelLayer)
redis, ipc = [kind(symmetric_encryption_keys=["a key that is long enough"]) for kind in kinds]
def salts():
    parts = redis._run().process, ipc._participant()
    return [part.records.pack(100, "c", b"")[4:20].hex() for part in parts]
before = salts()
assert before == salts()
print(*before, sep="\\n", flush=True)
for _ in range(2):
    if os.fork() == 0:
        print(*salts(), sep="\\n", flush=True)
        os._exit(0)
    os.wait()
print(*salts(), sep="\\n")
"""
    salts = run(script).split()
    assert len(salts) == 8
    assert len(set(salts)) == 6, "two layers in three processes"
    assert salts[:2] == salts[-2:]


def test_where_the_package_is_missing_one_sentence_names_the_extra() -> None:
    script = """
import sys
sys.modules["cryptography"] = None
import trunkline
for kind in (trunkline.RedisChannelLayer, trunkline.IPCChannelLayer):
    kind()
    try:
        kind(symmetric_encryption_keys=["hunter2"])
    except trunkline.ConfigurationError as error:
        print(error)
"""
    sentence = (
        "Option 'symmetric_encryption_keys' needs the package cryptography, which is not installed: "
        "install trunkline[encryption]."
    )
    assert run(script).splitlines() == [sentence] * 2


def test_a_weak_key_warns_once_however_many_layers_are_made() -> None:
    script = """
import logging, sys, trunkline
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(levelname)s %(message)s")
for kind in (trunkline.RedisChannelLayer, trunkline.IPCChannelLayer) * 2:
    print(repr(kind(symmetric_encryption_keys=["a key that is long enough", "hunter2"])))
"""
    lines = run(script).splitlines()
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "Key 2 of option 'symmetric_encryption_keys' is weak" in warnings[0]
    assert "hunter2" not in "".join(lines)


@pytest.mark.asyncio
@pytest.mark.parametrize("which", ["redis", "ipc"])
async def test_layers_with_different_serializers_understand_each_other(
    shared_redis: list[RedisServer], tmp_path: Path, which: str
) -> None:
    prefix, directory = uuid.uuid4().hex, str(tmp_path / "layer")
    layers = [
        RedisChannelLayer(hosts=[shared_redis[0].url], prefix=prefix, serializer_format=format)
        if which == "redis"
        else IPCChannelLayer(directory=directory, serializer_format=format)
        for format in ("msgpack", "json")
    ]
    try:
        for reader in layers:
            own = await reader.new_channel()
            await reader.group_add("room", own)
            for sender in layers:
                await sender.send(own, numbered(1))
                await sender.send("orders", numbered(2))
                await sender.group_send("room", numbered(3))
                assert [await receive(reader, channel) for channel in (own, "orders", own)] == [
                    numbered(1),
                    numbered(2),
                    numbered(3),
                ]
            await reader.group_discard("room", own)
        assert all(layer.counters.garbage == 0 for layer in layers)
    finally:
        await asyncio.gather(*(layer.close() for layer in layers))

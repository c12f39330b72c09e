"""``python -m benchmarks.codecs`` in tests/: what serializers and encryption cost.

Serializers that are not installed are left out; `pip install msgspec orjson ujson` brings the ones that were weighed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from benchmarks.load import QUEUE_RECEIVERS, SENDS_IN_FLIGHT, message
from benchmarks.targets import OURS, TARGETS, build
from support.servers import RedisServer
from trunkline.codec import DIRECT, decode, encode, encode_json, records_for

NESTED = {
    "type": "feature.update",
    "items": [
        {"id": i, "name": f"name {i}", "xy": [1.5 * i, 2.5 * i], "on": True, "tags": ["a", "b"]} for i in range(50)
    ],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "encrypted": {"symmetric_encryption_keys": ["a key that is long enough"]},
    "json": {"serializer_format": "json"},
}
CHANNEL = "specific.0123456789abcdef01234567!1a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of whole layers, the best counts (default 9)")
    options = parser.parse_args()
    print("| message | serializer | bytes | encode, µs | decode, µs |\n|---|---|---|---|---|")
    for name, sample in (("200 bytes", message(123456)), ("nested", NESTED)):
        for serializer, pack, unpack in _serializers():
            packed = pack(sample)
            assert unpack(packed) == sample
            figures = f"{_us(pack, sample):.2f} | {_us(unpack, packed):.2f}"
            print(f"| {name} | {serializer} | {len(packed)} | {figures} |", flush=True)
    print("\n| 200 bytes | seal, µs | open, µs |\n|---|---|---|")
    for name, seal, unseal in _ciphers():
        body = encode(message(123456))
        sealed = seal(body)
        print(f"| {name} | {_us(seal, body):.2f} | {_us(unseal, sealed):.2f} |", flush=True)
    _layers(options.rounds)


def _us(work: Callable[[Any], Any], argument: Any) -> float:
    """Microseconds of this thread's own time for one call, in the best of some rounds."""
    times = []
    for _ in range(9):
        begin = time.thread_time_ns()
        for _ in range(2000):
            work(argument)
        times.append(time.thread_time_ns() - begin)
    return min(times) / 2000 / 1000


def _serializers() -> list[tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]]]:
    found: list[tuple[str, Callable[[Any], bytes], Callable[[bytes], Any]]] = [
        ("ours, msgpack", encode, decode),
        ("ours, json", encode_json, decode),
        ("json", _in_bytes(json.dumps), json.loads),
    ]
    for name, pack, unpack in (
        ("ormsgpack", "packb", "unpackb"),
        ("msgpack", "packb", "unpackb"),
        ("msgspec.msgpack", "encode", "decode"),
        ("orjson", "dumps", "loads"),
        ("msgspec.json", "encode", "decode"),
        ("ujson", "dumps", "loads"),
    ):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        packs, unpacks = getattr(module, pack), getattr(module, unpack)
        found.append((name, packs if name != "ujson" else _in_bytes(packs), unpacks))
    return found


def _in_bytes(dumps: Callable[[Any], str]) -> Callable[[Any], bytes]:
    return lambda value: dumps(value).encode()


def _ciphers() -> list[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    nonce, head = bytes(12), bytes(64)
    aes, chacha = AESGCM(os.urandom(32)), ChaCha20Poly1305(os.urandom(32))
    fernet = Fernet(Fernet.generate_key())
    key = hashlib.sha256(b"key").digest()
    ours: list[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = []
    for name, keys in (("a record in the clear", []), ("a sealed record", [key])):
        ours.append((name, *_records(keys)))
    return [
        *ours,
        ("AES-256-GCM alone", lambda body: aes.encrypt(nonce, body, head), lambda data: aes.decrypt(nonce, data, head)),
        (
            "ChaCha20-Poly1305 alone",
            lambda body: chacha.encrypt(nonce, body, head),
            lambda data: chacha.decrypt(nonce, data, head),
        ),
        ("Fernet (asgi_redis, channels_redis)", fernet.encrypt, fernet.decrypt),
    ]


def _records(keys: list[bytes]) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """What a sender and a reader with these keys do to one body."""
    pack, unpack = records_for(keys, "bench").pack, records_for(keys, "bench").unpack
    return lambda body: b"1790000000000" + pack(DIRECT, CHANNEL, body), lambda data: unpack(data).body


async def _cpu(layer: Any, messages: int) -> float:
    """Microseconds of processor time for a message that this process sends to a queue and receives from it."""
    received = 0
    numbers, all_there = iter(range(messages)), asyncio.Event()

    async def receiver() -> None:
        nonlocal received
        while True:
            await layer.receive("bench")
            received += 1
            if received == messages:
                all_there.set()

    async def sender() -> None:
        for number in numbers:
            await layer.send("bench", message(number))

    receivers = [asyncio.create_task(receiver()) for _ in range(QUEUE_RECEIVERS)]
    await asyncio.sleep(0.1)
    begin = time.process_time()
    await asyncio.gather(*(sender() for _ in range(SENDS_IN_FLIGHT)))
    await all_there.wait()
    used = time.process_time() - begin
    for task in receivers:
        task.cancel()
    await asyncio.wait(receivers)
    await layer.close()
    return used / messages * 1e6


def _layers(rounds: int) -> None:
    memory = Path("/dev/shm")
    print("\n| layer | options | processor time of a message, µs | of that without |\n|---|---|---|---|")
    with RedisServer() as server, tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        for target in (target for target in TARGETS if target.name in OURS):
            times: dict[str, list[float]] = {name: [] for name in VARIANTS}
            for _ in range(rounds):
                for name, options in VARIANTS.items():
                    config = {**target.config(server.url, directory), "prefix": uuid.uuid4().hex, **options}
                    times[name].append(asyncio.run(_cpu(build(target.backend, config), 6000)))
            for name, measured in times.items():
                ratio = min(measured) / min(times["none"])
                print(f"| {target.name} | {name} | {min(measured):.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()

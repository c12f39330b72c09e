"""What happens when there is no room: in the map that `size` allows, and in a real small file system."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline import ChannelFull, IPCChannelLayer, LayerUnavailable


@pytest.fixture
def small_file_system() -> Iterator[Path]:
    """A tmpfs of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip(
            "mounting a tmpfs needs root: sudo .venv/bin/python -m pytest tests/integration/test_ipc_no_room.py"
        )
    with tempfile.TemporaryDirectory() as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", directory], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.strip()}): run as root outside a container")
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


def layer_in(directory: Path, **config: Any) -> IPCChannelLayer:
    return IPCChannelLayer(**{"directory": str(directory), "prefix": "test", "capacity": 100_000, **config})


def fill_up(ballast: Path) -> None:
    """Write until the file system is full."""
    with ballast.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - how it ends


async def fill(layer: IPCChannelLayer, body: bytes) -> tuple[int, BaseException]:
    """Send until it is refused; returns how many were taken, and the refusal."""
    for number in range(100_000):
        try:
            await layer.send("work", {"number": number, "body": body})
        except (ChannelFull, LayerUnavailable) as error:
            return number, error
    raise AssertionError("it never became full")


async def drain(layer: IPCChannelLayer, count: int) -> None:
    for number in range(count):
        assert (await asyncio.wait_for(layer.receive("work"), 5))["number"] == number


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"", b"x" * 300, b"x" * 5000, b"x" * 100_000], ids=len)
async def test_a_full_map_is_one_sentence_that_names_size_and_every_message_is_still_received(
    tmp_path: Path, body: bytes
) -> None:
    layer = layer_in(tmp_path, size=2 * 1024 * 1024)
    for _ in range(4):  # and it recovers, however often
        taken, refusal = await fill(layer, body)
        assert isinstance(refusal, ChannelFull)
        assert "`size`" in str(refusal)
        assert taken * (len(body) + 100) > 2**20, "less than half of it was used"
        await layer.group_add("room", "work")
        with pytest.raises(LayerUnavailable, match="`size`"):
            await layer.group_send("room", {"body": b"x" * 1_000_000})
        await drain(layer, taken)
    await layer.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [b"x" * 300, b"x" * 5000, b"x" * 100_000], ids=len)
async def test_a_full_file_system_is_one_sentence_and_every_message_is_still_received(
    small_file_system: Path, body: bytes
) -> None:
    layer, other = layer_in(small_file_system), layer_in(small_file_system)
    for _ in range(4):
        taken, refusal = await fill(layer, body)
        assert isinstance(refusal, ChannelFull)
        assert "is full" in str(refusal)
        assert "`directory`" in str(refusal)
        await drain(other, taken)
    await layer.close()
    await other.close()


@pytest.mark.asyncio
async def test_a_file_system_that_others_filled_refuses_the_layer_until_there_is_room(small_file_system: Path) -> None:
    ballast = small_file_system / "ballast"
    fill_up(ballast)
    layer = layer_in(small_file_system)
    with pytest.raises((ChannelFull, LayerUnavailable), match=r"is full|No space"):
        await layer.send("work", {})
    receiving = asyncio.ensure_future(layer.receive("work"))
    done, _ = await asyncio.wait({receiving}, timeout=0.5)
    assert not done, "for a receiver an outage is a pause"
    ballast.unlink()
    await layer.send("work", {"number": 1})
    assert await asyncio.wait_for(receiving, 5) == {"number": 1}
    await layer.close()


@pytest.mark.asyncio
async def test_a_file_system_that_others_fill_later_harms_nobody_who_uses_the_layer(small_file_system: Path) -> None:
    layer = layer_in(small_file_system)
    await layer.send("work", {"number": 0})
    ballast = small_file_system / "ballast"
    fill_up(ballast)
    for number in range(1, 300):
        await layer.send("work", {"number": number, "body": b"x" * 1000})
    await drain(layer, 300)
    await layer.close()

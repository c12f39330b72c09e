"""What an event loop asks for keeps its order when the loop gets connections of its own, whenever it is asked for."""

from __future__ import annotations

import asyncio

import pytest

from trunkline.redis.switch import Switch


@pytest.mark.asyncio
@pytest.mark.parametrize("waiting", [1, 2, 5])
@pytest.mark.parametrize("at_once", [1, 3])
async def test_nobody_passes_those_who_wait_for_the_shared_thread(waiting: int, at_once: int) -> None:
    switch, order = Switch(0.0), []
    under_way: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask(number: int) -> None:
        if switch.busy:
            await switch.turn()
        order.append(number)

    shared = asyncio.ensure_future(switch.elsewhere(under_way))
    await asyncio.sleep(0)
    tasks = [asyncio.ensure_future(ask(number)) for number in range(waiting)]
    await asyncio.sleep(0)
    under_way.set_result(None)
    for _ in range(12):  # newcomers in each turn of the loop, while those who waited go on
        tasks += [asyncio.ensure_future(ask(len(tasks) + number)) for number in range(at_once)]
        await asyncio.sleep(0)
    await asyncio.gather(shared, *tasks)
    assert order == sorted(order)
    assert len(order) == waiting + 12 * at_once
    assert not switch.busy

"""Two people chat through two Daphne processes of `make run`, as a browser sees it."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.stack import MakeRun

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, FilePayload, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DEADLINE_MS = 15_000
OPENINGS = 40  # the kernel deals connections to two processes; that one gets 40 in a row is a chance of 2 in 10**12

Open = Callable[..., "Visitor"]


class Visitor:
    """A person with a browser window of their own, in a room."""

    def __init__(self, page: Page, url: str, room: str, name: str) -> None:
        self.page, self.url, self.room = page, url, room
        self.welcomes: list[dict[str, Any]] = []
        self.problems: list[str] = []
        page.set_default_timeout(DEADLINE_MS)
        page.on("websocket", lambda socket: socket.on("framereceived", self._note))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.goto(url)
        page.click(".me summary")
        page.fill("#my-name", name)
        page.click(".me button")
        page.wait_for_load_state()
        self.enter()

    def _note(self, frame: str | bytes) -> None:
        event = json.loads(frame)
        if event["type"] == "welcome":
            self.welcomes.append(event)

    def enter(self) -> None:
        self.page.goto(f"{self.url}/rooms/{self.room}/")
        self.connected()

    def connected(self) -> None:
        self.page.wait_for_selector("#state[data-state=connected]")

    @property
    def process(self) -> int:
        """Which Daphne process serves the socket, as its first message says."""
        process: int = self.welcomes[-1]["server"]["process_id"]
        return process

    def say(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")

    def sees(self, text: str) -> None:
        # Shown by the server, not only waiting to be sent.
        self.page.locator(".message:not(.sending)").get_by_text(text, exact=True).wait_for()

    def sees_people(self, *names: str) -> None:
        self.page.wait_for_function(
            "names => [...document.querySelectorAll('#people .name')].map(n => n.textContent).join() === names.join()",
            arg=sorted(names),
        )


@pytest.fixture
def visit(browser: Browser, stack: MakeRun) -> Iterator[Open]:
    """A function that opens a room of this test's own in a new browser window."""
    room = f"test-{uuid.uuid4().hex[:12]}"
    contexts: list[BrowserContext] = []
    visitors: list[Visitor] = []

    def visit(name: str, **context: Any) -> Visitor:
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        if not visitors:
            page.goto(stack.url)
            page.fill(".open-room input[name=name]", room)
            page.click(".open-room button")
        visitors.append(Visitor(page, stack.url, room, name))
        return visitors[-1]

    yield visit
    for context in contexts:
        context.close()
    assert [problem for visitor in visitors for problem in visitor.problems] == []


def apart(one: Visitor, other: Visitor) -> None:
    """Let ``other`` come in again until another process serves it."""
    for _ in range(OPENINGS):
        if one.process != other.process:
            return
        other.enter()
    raise AssertionError(f"{OPENINGS} sockets in a row came to process {one.process}")


def photograph() -> bytes:
    """A picture worth looking at: hills in the evening, as a JPEG of 1600 x 1000."""
    image_module = pytest.importorskip("PIL.Image")
    draw_module = pytest.importorskip("PIL.ImageDraw")
    image = image_module.new("RGB", (1600, 1000))
    draw = draw_module.Draw(image)
    for y in range(1000):
        share = y / 1000
        draw.line((0, y, 1600, y), fill=(int(58 + 190 * share), int(74 + 90 * share), int(140 - 20 * share)))
    draw.ellipse((1080, 420, 1260, 600), fill=(255, 226, 160))
    for layer, colour in enumerate([(86, 84, 132), (62, 66, 112), (40, 46, 84), (24, 28, 56)]):
        base = 560 + layer * 110
        hills = [
            (x, base + 46 * math.sin(x / 210 + layer * 2.1) + 18 * math.sin(x / 67 + layer)) for x in range(0, 1601, 8)
        ]
        draw.polygon([(0, 1000), *hills, (1600, 1000)], fill=colour)
    output = io.BytesIO()
    image.save(output, "JPEG", quality=88)
    return output.getvalue()


def test_two_pages_on_different_daphne_processes_chat_and_see_a_thumbnail(
    visit: Open, stack: MakeRun, screenshots: Path, request: pytest.FixtureRequest
) -> None:
    maren = visit("Maren Holt", viewport={"width": 1200, "height": 800})
    jonas = visit("Jonas Weber", viewport={"width": 390, "height": 800}, color_scheme="dark")
    apart(maren, jonas)
    assert {maren.process, jonas.process} == set(stack.pids("-m daphne"))
    assert maren.page.locator("[data-fact=process_id]").text_content() == str(maren.process)
    assert maren.page.locator("[data-fact=release]").text_content() == "2026.11"
    maren.sees_people("Jonas Weber", "Maren Holt")
    jonas.sees_people("Jonas Weber", "Maren Holt")

    for speaker, text in (
        (maren, "Morning! The new release is on staging."),
        (jonas, "Saw it. You are on another process than I am, by the way."),
        (jonas, "Here is the view from the cabin:"),
    ):
        speaker.say(text)
        maren.sees(text)
        jonas.sees(text)
    picture: FilePayload = {"name": "evening.jpg", "mimeType": "image/jpeg", "buffer": photograph()}
    jonas.page.set_input_files("#picture", files=[picture])
    for each in (maren, jonas):
        image = each.page.locator(".bubble.picture img")
        image.wait_for()
        each.page.wait_for_function("() => document.querySelector('.bubble.picture img').naturalWidth === 480")
    [worker] = stack.pids("runworker thumbnail")
    assert f"thumbnail by worker {worker}" in (maren.page.locator(".caption").text_content() or "")
    maren.say("Lovely. Deploying now, don't hold your breath.")
    jonas.sees("Lovely. Deploying now, don't hold your breath.")

    layer = request.node.callspec.params["stack"]
    for name, each in (("wide", maren), ("narrow", jonas)):
        each.page.wait_for_function("() => [...document.images].every(i => i.complete)")
        each.page.screenshot(path=screenshots / f"{layer}-{name}.png")
    jonas.page.goto(stack.url)
    maren.sees_people("Maren Holt")
    jonas.page.screenshot(path=screenshots / f"{layer}-rooms-narrow.png")


def test_messages_come_in_order_with_the_history_and_a_bad_picture_gets_a_sentence(visit: Open) -> None:
    maren, jonas = visit("Maren"), visit("Jonas")
    apart(maren, jonas)
    for n in range(20):
        maren.say(f"number {n}")
    for each in (jonas, maren):
        each.sees("number 19")
    late = visit("Late")
    late.sees("number 19")
    for each in (maren, jonas, late):
        texts = each.page.locator(".message .bubble").all_text_contents()
        assert texts == [f"number {n}" for n in range(20)]
    file: FilePayload = {"name": "notes.png", "mimeType": "image/png", "buffer": b"not a picture"}
    late.page.set_input_files("#picture", files=[file])
    late.page.get_by_text("That is no JPEG, PNG, WebP or GIF picture.").wait_for()


def test_when_a_daphne_process_dies_its_page_comes_back_by_itself_and_nothing_is_missing(
    visit: Open, stack: MakeRun, screenshots: Path
) -> None:
    maren, jonas = visit("Maren"), visit("Jonas")
    apart(maren, jonas)
    maren.say("before")
    jonas.sees("before")
    killed = jonas.process
    jonas.page.evaluate(
        """() => { window.states = [];
          new MutationObserver(() => states.push(document.getElementById('state').dataset.state))
            .observe(document.getElementById('state'), {attributes: true}); }"""
    )
    os.kill(killed, signal.SIGKILL)
    jonas.page.wait_for_function("() => states.includes('waiting') || states.includes('connecting')")
    # Both go on writing at once: what is written into a broken connection is sent when it is back.
    jonas.say("written while away")
    maren.say("written meanwhile")
    jonas.connected()
    assert jonas.process != killed
    for each in (maren, jonas):
        for text in ("before", "written while away", "written meanwhile"):
            each.sees(text)
        assert each.page.locator(".message").count() == 3
    maren.sees_people("Jonas", "Maren")  # one Jonas, although his first socket never said goodbye
    stack.until(lambda: len(stack.pids("-m daphne")) == 2, "second Daphne process")


def test_without_a_server_the_page_says_so_and_is_there_again_when_the_server_is(
    visit: Open, stack: MakeRun, screenshots: Path
) -> None:
    maren = visit("Maren")
    context = maren.page.context
    # The socket is cut by the page's own deadline and stays away while the browser is offline.
    context.set_offline(True)
    maren.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    maren.page.wait_for_selector("#state[data-state=waiting]", timeout=30_000)
    maren.say("for later")
    maren.page.screenshot(path=screenshots / "offline.png")
    assert maren.page.locator(".message.sending").count() == 1
    context.set_offline(False)
    maren.connected()
    maren.sees("for later")
    assert maren.page.locator(".message").count() == 1

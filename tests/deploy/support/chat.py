"""A visitor of the chat: HTTP with cookies, and the room's WebSocket; without a browser."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import time
import urllib.error
import urllib.request
import uuid
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

ANSWER_S = 20.0  # for a message or a thumbnail, on a busy machine
BACK_S = 60.0  # until the chat works again after something was restarted
SLUG = "lobby"


class Visitor:
    """Somebody with a page open.

    :param url: the site, such as ``http://127.0.0.1:8000``.
    :param name: the visitor's name, for failures only.
    :ivar server: what the process that serves the socket says about itself.
    """

    def __init__(self, url: str, name: str = "visitor", room: str = SLUG) -> None:
        self.url, self.name, self.room = url, name, room
        self.server: dict[str, Any] = {}
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies)
        )
        self._socket: ClientConnection | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    # HTTP

    def get(self, path: str, **headers: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        with self._opener.open(request, timeout=ANSWER_S) as answer:
            content: bytes = answer.read()
            return content

    def upload(self, picture: bytes) -> dict[str, Any]:
        """Send a picture; what the room says of it comes over the socket."""
        boundary = uuid.uuid4().hex
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="p.png"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode()
        body += picture + f"\r\n--{boundary}--\r\n".encode()
        token = next(cookie.value for cookie in self._cookies if cookie.name == "csrftoken")
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Accept": "application/json",
            "X-CSRFToken": str(token),
            "Referer": self.url + "/",
        }
        request = urllib.request.Request(f"{self.url}/rooms/{self.room}/pictures/", data=body, headers=headers)
        with self._opener.open(request, timeout=ANSWER_S) as answer:
            sent: dict[str, Any] = json.load(answer)["picture"]
            return sent

    # WebSocket

    def enter(self, deadline_s: float = ANSWER_S) -> Visitor:
        """Open the room, and try again until the deadline, as the page does."""
        self.leave()
        end = time.monotonic() + deadline_s
        while True:
            try:
                if not any(cookie.name == "csrftoken" for cookie in self._cookies):
                    self.get(f"/rooms/{self.room}/")
                cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._cookies)
                connection = connect(
                    f"{self.url.replace('http', 'ws', 1)}/ws/rooms/{self.room}/",
                    additional_headers={"Cookie": cookies},
                    origin=Origin(self.url),
                    open_timeout=5,
                    close_timeout=2,
                    proxy=None,
                )
                self._socket = self._open.enter_context(connection)
                self.server = self.hear("welcome", 5)["server"]
                return self
            except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError, AssertionError) as error:
                self.leave()
                if time.monotonic() > end:
                    raise AssertionError(f"{self.name} couldn't enter within {deadline_s:g} s: {error!r}") from error
                time.sleep(0.2)

    def leave(self) -> None:
        self._socket = None
        self._open.close()

    def say(self, text: str) -> None:
        assert self._socket is not None
        self._socket.send(json.dumps({"type": "message", "text": text, "nonce": str(uuid.uuid4())}))

    def hear(self, kind: str, deadline_s: float = ANSWER_S, **wanted: Any) -> dict[str, Any]:
        """The next event of ``kind`` whose message or picture has the ``wanted`` values."""
        assert self._socket is not None
        end = time.monotonic() + deadline_s
        while (left := end - time.monotonic()) > 0:
            try:
                event: dict[str, Any] = json.loads(self._socket.recv(timeout=left))
            except TimeoutError:
                break
            body = event.get(kind)
            inner = body if isinstance(body, dict) else {}
            if event["type"] == kind and all(inner.get(key) == value for key, value in wanted.items()):
                return event
        raise AssertionError(f"{self.name} heard no {kind} with {wanted} within {deadline_s:g} s")


def talk(*visitors: Visitor) -> None:
    """Everybody says something, and everybody hears it."""
    for speaker in visitors:
        text = f"{speaker.name} {uuid.uuid4().hex}"
        speaker.say(text)
        for listener in visitors:
            listener.hear("message", text=text)


def show_picture(owner: Visitor, *others: Visitor, picture: bytes) -> dict[str, Any]:
    """Upload a picture: everybody hears of its thumbnail, which can be fetched. Returns who made it."""
    sent = owner.upload(picture)
    for visitor in (owner, *others):
        heard = visitor.hear("picture", id=sent["id"])["picture"]
        small = visitor.get(heard["thumbnail"])
        assert small[:4] == b"RIFF", "the thumbnail is no WebP"
        assert small[8:12] == b"WEBP", "the thumbnail is no WebP"
    made_by: dict[str, Any] = heard["made_by"]
    return made_by


def apart(first: Visitor, second: Visitor, key: str = "host", tries: int = 60) -> None:
    """Both enter, until they are served by different containers or processes."""
    first.enter(BACK_S)
    for _ in range(tries):
        second.enter(BACK_S)
        if first.server[key] != second.server[key]:
            return
    raise AssertionError(f"{tries} sockets in a row were served by {first.server}")


def works_again(first: Visitor, second: Visitor, picture: bytes) -> None:
    """Within the deadline both get in again, on their own, hear each other, and see a thumbnail."""
    end = time.monotonic() + BACK_S
    while True:
        try:
            first.enter(max(1.0, end - time.monotonic()))
            second.enter(max(1.0, end - time.monotonic()))
            talk(first, second)
            show_picture(first, second, picture=picture)
            return
        except (AssertionError, OSError, ConnectionClosed, urllib.error.URLError):
            if time.monotonic() > end:
                raise

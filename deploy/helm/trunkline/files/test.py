"""What `helm test` runs: opens a page, and exchanges a message between two WebSockets. Python's standard library."""

import base64
import http.client
import os
import socket
import struct
import sys
import time
import uuid

DEADLINE_S = 30.0
# The name that every project answers to, where it names any.
HEADERS = {"Host": "localhost", "Origin": "http://localhost"}
SITE = os.environ["SITE"]


def main() -> None:
    status, cookies = get(os.environ["PAGE"])
    print(f"{os.environ['PAGE']} answered {status}")
    if status >= 500:
        sys.exit(1)
    path = os.environ["SOCKET"]
    if not path:
        return
    text = uuid.uuid4().hex
    one, other = (Socket(path, get(os.environ["SOCKET_PAGE"])[1] or cookies) for _ in range(2))
    one.send(os.environ["MESSAGE"].replace("@TEXT@", text))
    for each in (one, other):
        each.hear(text)
    print(f"a message over {path} arrived at both sockets")


def get(path: str) -> "tuple[int, str]":
    """The status of a page and the cookies that it sets."""
    connection = http.client.HTTPConnection(SITE, timeout=DEADLINE_S)
    connection.request("GET", path, headers=HEADERS)
    answer = connection.getresponse()
    answer.read()
    cookies = (value.partition(";")[0] for value in answer.headers.get_all("Set-Cookie", []))
    return answer.status, "; ".join(cookies)


class Socket:
    """As much of RFC 6455 as this needs."""

    def __init__(self, path: str, cookies: str) -> None:
        host, _, port = SITE.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self._bytes = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {**HEADERS, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers |= {"Sec-WebSocket-Key": key, **({"Cookie": cookies} if cookies else {})}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        status = self._bytes.readline()
        while self._bytes.readline().strip():
            pass
        if status.split()[1] != b"101":
            sys.exit(f"{path} answered {status.decode().strip()}")
        # Something arrives first where the server greets; a group may be joined only then.
        self._heard = ""
        self._socket.settimeout(2.0)
        try:
            self._heard = self._frame()
        except TimeoutError:
            self._bytes = self._socket.makefile("rb")
        self._socket.settimeout(DEADLINE_S)

    def send(self, text: str) -> None:
        data, mask = text.encode(), os.urandom(4)
        length = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
        self._socket.sendall(b"\x81" + length + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

    def hear(self, text: str) -> None:
        """Wait until a frame holds the text."""
        end = time.monotonic() + DEADLINE_S
        while text not in self._heard:
            if time.monotonic() > end:
                sys.exit(f"no message within {DEADLINE_S:g} s")
            self._heard = self._frame()

    def _frame(self) -> str:
        first, second = self._read(2)
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(self._read(2 if length == 126 else 8), "big")
        data = self._read(length)
        if first & 0x0F == 8:
            sys.exit(f"the server closed the socket: {int.from_bytes(data[:2], 'big')} {data[2:].decode()}")
        return data.decode(errors="replace") if first & 0x0F < 3 else ""

    def _read(self, count: int) -> bytes:
        data = self._bytes.read(count)
        if len(data) != count:
            sys.exit("the server cut the socket")
        return data


main()

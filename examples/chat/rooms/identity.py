"""Who serves (a process of the deployment) and who asks (a visitor with a name in the signed cookie)."""

import os
import random
import socket
import sys
import unicodedata
import uuid
from collections.abc import MutableMapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest

NAME_LENGTH = 30  # characters
COLOURS = ("Amber", "Coral", "Crimson", "Indigo", "Ivory", "Jade", "Olive", "Scarlet", "Silver", "Teal")
ANIMALS = ("Badger", "Falcon", "Heron", "Ibex", "Lynx", "Marten", "Otter", "Panda", "Puffin", "Raven", "Stoat", "Wren")


def facts() -> dict[str, Any]:
    """Which process this is. The process id is asked each time: a server may fork after it loaded us."""
    return {
        "role": "worker" if "runworker" in sys.argv[1:2] else "interface",
        "host": socket.gethostname(),
        "process_id": os.getpid(),
        "release": settings.RELEASE,
    }


def clean_name(raw: str) -> str:
    """A name fit to be shown: one line, no control characters, at most NAME_LENGTH; empty when nothing is left."""
    printable = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in raw)
    return " ".join(printable.split())[:NAME_LENGTH].strip()


def ensure_visitor(session: MutableMapping[str, Any]) -> None:
    """Give a new visitor an identity and a name that can be changed later."""
    if "visitor" not in session:
        session["visitor"] = uuid.uuid4().hex
        session["name"] = f"{random.choice(COLOURS)} {random.choice(ANIMALS)}"


def template_context(request: HttpRequest) -> dict[str, Any]:
    return {
        "visitor_name": request.session.get("name", ""),
        "name_length": NAME_LENGTH,
        "facts": facts(),
    }

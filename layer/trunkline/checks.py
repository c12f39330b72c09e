"""Django system checks: what in a project's settings would keep Trunkline from doing its work."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register
from django.core.management import get_commands, load_command_class


@register()  # type: ignore[untyped-decorator]
def check_runworker(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """``trunkline.W001``: another app's ``runworker`` stands before ours (Django takes the first app's command)."""
    winner = get_commands().get("runworker", "trunkline")
    if not isinstance(winner, str):  # a command object that was already loaded
        winner = type(winner).__module__.partition(".management.")[0]
    if winner == "trunkline":
        return []
    from trunkline.management.commands.runworker import Command

    if isinstance(load_command_class(winner, "runworker"), Command):
        return []  # the project's own command, made from ours
    return [
        Warning(
            f"`manage.py runworker` is the one of {winner!r}, which drops running handlers when it is stopped.",
            hint=f"Put 'trunkline' before {winner!r} in INSTALLED_APPS.",
            id="trunkline.W001",
        )
    ]

"""Trunkline as a Django app: its management commands and system checks."""

from __future__ import annotations

from django.apps import AppConfig


class TrunklineConfig(AppConfig):  # type: ignore[misc]
    name = "trunkline"
    verbose_name = "Trunkline"

    def ready(self) -> None:
        from trunkline import checks  # noqa: F401 - registers the checks

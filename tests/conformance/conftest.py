"""Strict expected failures, for the reference layers only: ``EXPECTED_FAILURES`` of a module, test name -> reason.

``NOT_RUN`` of a module names the few tests that fail by chance, and says why. An expected failure that passes
fails the run, and so does an entry that names no test. A name without parameters stands for every parameter.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names_by_module: dict[Any, set[str]] = defaultdict(set)
    for item in items:
        module = getattr(item, "module", None)
        failures: dict[str, str] = getattr(module, "EXPECTED_FAILURES", {})
        not_run: dict[str, str] = getattr(module, "NOT_RUN", {})
        names = {item.name, getattr(item, "originalname", item.name)}
        names_by_module[module] |= names
        for name in names & failures.keys():
            item.add_marker(pytest.mark.xfail(reason=failures[name], strict=True))
        for name in names & not_run.keys():
            item.add_marker(pytest.mark.skip(reason=f"not run: {not_run[name]}"))
    if not items or any("::" in str(argument) for argument in items[0].config.args):
        return  # a selection of tests need not hold those of the tables
    for module, names in names_by_module.items():
        for table in ("EXPECTED_FAILURES", "NOT_RUN"):
            unknown = sorted(getattr(module, table, {}).keys() - names)
            if unknown:
                raise pytest.UsageError(f"{module.__name__}: {table} names no test: {', '.join(unknown)}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which servers the contract was really run on."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    servers = {value for report in reports for name, value in report.user_properties if name == "server"}
    if servers:
        terminalreporter.write_line(f"Servers under the contract: {', '.join(sorted(servers))}.")

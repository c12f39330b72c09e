"""Debian as this machine gets it: its mirror, and apt-get with a sentence when it fails. Standard library alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUITE = "trixie"  # of the images; also the first Debian with Compose 2 and buildx among its packages
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ETC = Path("/etc/apt")


class Trouble(Exception):
    """One sentence for the person who typed the command."""


@dataclass(frozen=True)
class Mirror:
    """Where this machine's apt gets Debian from."""

    main: str
    security: str | None

    def sources(self, suite: str = SUITE) -> str:
        """A sources.list for ``suite`` from the same place."""
        lines = [f"deb [signed-by={KEYS}] {self.main} {suite} main\n"]
        if self.security is not None:
            lines.append(f"deb [signed-by={KEYS}] {self.security} {suite}-security main\n")
        return "".join(lines)


def mirror() -> Mirror:
    """What the machine's sources say.

    :raises Trouble: when this isn't Debian, or apt has no source of it.
    """
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    suite = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not suite:
        raise Trouble("This machine isn't a Debian, so it is not known where to get Debian's packages from.")
    found: dict[str, str] = {}
    for path in sorted(_ETC.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            for name in fields.get("Suites", "").split():
                found.setdefault(name, (fields.get("URIs", "").split() or [""])[0])
    for path in [_ETC / "sources.list", *sorted(_ETC.glob("sources.list.d/*.list"))]:
        lines = path.read_text(encoding="utf-8") if path.exists() else ""
        for uri, name in re.findall(r"^deb[ \t]+(?:\[.*?\][ \t]+)?(\S+)[ \t]+(\S+)[ \t]", lines, re.MULTILINE):
            found.setdefault(name, uri)
    if not found.get(suite):
        raise Trouble(f"apt has no source of Debian {suite} on this machine.")
    return Mirror(found[suite], found.get(f"{suite}-security"))


def apt_install(packages: list[str]) -> None:
    """Install packages, as root or with sudo.

    :raises Trouble: with the end of apt's output.
    """
    if shutil.which("apt-get") is None:
        raise Trouble(f"Without apt-get, install these by hand: {', '.join(packages)}.")
    print(f"Installing {', '.join(packages)} with apt-get ...", flush=True)
    # Waits for another apt; starts no service.
    options = ["-qq", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        apt_get(*options, *command)


def unpack(packages: Iterable[str], folder: Path, *, suite: str = SUITE) -> Path:
    """Download packages of any Debian and unpack them below ``folder``, without installing anything or being root.

    :returns: the folder that holds their files.
    :raises Trouble: with the end of apt's output.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Trouble("Without apt-get and dpkg-deb, packages of Debian can't be unpacked.")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "sources.list").write_text(mirror().sources(suite), encoding="utf-8")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::Status": "/dev/null",  # what is installed here doesn't matter
        "Dir::Cache": folder,
        "Dir::Cache::PkgCache": "",
        "Dir::Cache::SrcPkgCache": "",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    options = ["-qq", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    apt_get(*options, "update", root=False)
    apt_get(*options, "download", *packages, folder=folder, root=False)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, folder / "files"], check=True)
    return folder / "files"


def apt_get(*arguments: str, folder: Path | None = None, root: bool = True) -> None:
    command = [
        *(rights() if root else []),
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
        *arguments,
    ]
    answer = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if answer.returncode != 0:
        raise Trouble(f"{answer.stdout[-2000:]}\napt-get failed; its last lines are above.")


def candidate(package: str) -> str:
    """The version that apt-get would install, or nothing."""
    answer = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True)
    found = re.search(r"Candidate: (\S+)", answer.stdout)
    return "" if found is None or found[1] == "(none)" else found[1]


def rights() -> list[str]:
    """What stands before a command that needs root."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        raise Trouble("This needs root, and there is no sudo: run it as root.")
    return ["sudo"]

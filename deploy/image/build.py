#!/usr/bin/env python3
"""Builds the images.

    build.py base    a Debian base image by debootstrap, for where no image registry can be reached (as root)
    build.py images  trunkline, trunkline-example, and Redis and nginx of Debian's packages, all on one base

The base of `images` is TRUNKLINE_BASE; without it, the one that `base` has made; without it, debian:trixie-slim from
the registry; where that can't be pulled, `base` is run. The mirror, the pip index and the CA bundle of this machine
go into the builds as secrets. Runs on the system's Python with its standard library alone.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from debian import KEYS, SUITE, Mirror, Trouble, apt_install, mirror, rights

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
BASE = f"trunkline-base:{SUITE}"
REGISTRY_BASE = f"debian:{SUITE}-slim"
REGISTRY_S = 30.0  # for a registry to begin to answer
SLIM = "".join(f"path-exclude /usr/share/{name}/*\n" for name in ("doc", "man", "info", "locale", "lintian"))


def main() -> int:
    actions = {"base": base_image, "images": images}
    action = actions.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if action is None:
        print(__doc__)
        return 2
    try:
        action()
    except Trouble as exc:
        print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def version() -> str:
    """The distribution's version as an image's tag."""
    text = (ROOT / "layer" / "trunkline" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1].replace("+", "-")


# --- the base ---


def base_image() -> None:
    begin = time.monotonic()
    if shutil.which("debootstrap") is None and not Path("/usr/sbin/debootstrap").exists():
        apt_install(["debootstrap"])
    print(f"Making {BASE}: Debian {SUITE} by debootstrap ...", flush=True)
    place = tempfile.mkdtemp(prefix="trunkline-base-")
    try:
        debootstrap(place)
        finish(Path(place))
        print("  packing it", flush=True)
        tar = subprocess.Popen(
            [*rights(), "tar", "--create", "--numeric-owner", "-C", place, "."], stdout=subprocess.PIPE
        )
        answer = subprocess.run(["docker", "import", "--change", "CMD bash", "-", BASE], stdin=tar.stdout)
        if tar.wait() != 0 or answer.returncode != 0:
            raise Trouble("The base could not be imported; is Docker's engine running? `make docker` sees to it.")
    finally:
        subprocess.run([*rights(), "rm", "-rf", "--one-file-system", place])
    print(f"{BASE} is ready ({megabytes(BASE)} MB, {time.monotonic() - begin:.0f} s).", flush=True)


def debootstrap(place: str) -> None:
    command = ["debootstrap", "--variant=minbase", f"--keyring={KEYS}", SUITE, place, mirror().main]
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    process = subprocess.Popen(
        [*rights(), "env", f"PATH={path}", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines, counts = [], {"Retrieving": 0, "Extracting": 0, "Unpacking": 0, "Configuring": 0}
    for line in process.stdout:
        lines.append(line)
        found = re.match(r"I: (\w+)", line)
        if found and found[1] in counts:
            counts[found[1]] += 1
            if counts[found[1]] % 20 == 1:
                print(f"  {found[1].lower()} packages ({counts[found[1]] - 1} done)", flush=True)
    if process.wait() != 0:
        raise Trouble("".join(lines[-15:]) + "debootstrap failed; its last lines are above.")


def own_sources() -> str:
    """Debian's own mirrors, which debootstrap knows: what an image carries, wherever it was made.

    :raises Trouble: without debootstrap.
    """
    path = Path(shutil.which("debootstrap") or "/usr/sbin/debootstrap")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(r'^DEF_MIRROR="(\S+)"', text, re.MULTILINE)
    if found is None:
        raise Trouble(f"{path} is missing, or names no mirror of Debian's own.")
    return Mirror(found[1], f"{found[1]}-security").sources()


def finish(place: Path) -> None:
    """What the machine lent for the making goes, and what no container reads."""
    script = f"""
        set -e
        cd {place}
        rm -rf var/lib/apt/lists/* var/cache/apt/* var/cache/debconf/*-old var/log/* debootstrap
        rm -rf usr/share/doc/* usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian/*
        rm -f etc/resolv.conf etc/hostname etc/machine-id etc/apt/apt.conf.d/*proxy* etc/apt/sources.list
        mkdir -p usr/share/man/man1
        cat >etc/apt/sources.list.d/debian.list
        printf '%s' "$0" >etc/dpkg/dpkg.cfg.d/slim
        echo 'APT::Install-Recommends "false";' >etc/apt/apt.conf.d/slim
    """
    answer = subprocess.run([*rights(), "sh", "-c", script, SLIM], input=own_sources(), text=True)
    if answer.returncode != 0:
        raise Trouble("The base could not be tidied up; the reason is above.")


def base() -> str:
    """The base image for `images`, made or pulled if need be."""
    given = os.environ.get("TRUNKLINE_BASE", "").strip()
    if given:
        return given
    if exists(BASE):
        return BASE
    if exists(REGISTRY_BASE):
        return REGISTRY_BASE
    print(f"Asking the registry for {REGISTRY_BASE} ...", flush=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        manifest = ["docker", "manifest", "inspect", REGISTRY_BASE]
        reached = subprocess.run(manifest, capture_output=True, timeout=REGISTRY_S).returncode == 0
        if reached and subprocess.run(["docker", "pull", REGISTRY_BASE]).returncode == 0:
            return REGISTRY_BASE
    print("No registry is reached from here.", flush=True)
    base_image()
    return BASE


# --- the images on it ---


def images() -> None:
    tag, chosen = version(), base()
    print(f"Building on {chosen}:", flush=True)
    parts = {"trunkline-build": f"trunkline:{tag}-build", "trunkline": f"trunkline:{tag}"}
    extras = {"redis": f"trunkline-redis:{tag}", "nginx": f"trunkline-nginx:{tag}"}
    for target, name in {**parts, **extras}.items():
        build(name, ROOT, dockerfile=DOCKERFILE, target=target, BASE=chosen)
    build(f"trunkline-example:{tag}", ROOT / "examples" / "chat", TRUNKLINE=f"trunkline:{tag}")
    # Those that had these names before, and that nothing runs.
    subprocess.run(
        ["docker", "image", "prune", "--force", "--filter", "label=org.trunkline.image"], capture_output=True
    )


def build(name: str, context: Path, *, dockerfile: Path | None = None, target: str = "", **arguments: str) -> None:
    """Build one image; its output is shown only when it fails.

    :raises Trouble: with the end of the output.
    """
    begin = time.monotonic()
    command = ["docker", "build", "--tag", name, "--progress", "plain"]
    command += ["--file", str(dockerfile)] if dockerfile is not None else []
    command += ["--target", target] if target else []
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    for key in ("http_proxy", "https_proxy", "no_proxy"):  # BuildKit keeps these out of the image and its history
        if os.environ.get(key) or os.environ.get(key.upper()):
            command += ["--build-arg", f"{key}={os.environ.get(key) or os.environ[key.upper()]}"]
    with secrets() as given:
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        answer = subprocess.run(
            [*command, *given, str(context)], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    if answer.returncode != 0:
        raise Trouble(f"{answer.stdout[-4000:]}\n{name} could not be built; its last lines are above.")
    print(f"  {name:40} {megabytes(name):>4} MB  {time.monotonic() - begin:6.1f} s", flush=True)


@contextlib.contextmanager
def secrets() -> Iterator[list[str]]:
    """Options for `docker build`: what this machine uses to reach its package mirrors."""
    with tempfile.TemporaryDirectory(prefix="trunkline-build-") as folder:
        options = []
        contents = {"pip.conf": pip_conf(), "apt-sources": apt_sources(), "ca": ca_bundle()}
        for name, content in contents.items():
            if content:
                path = Path(folder, name)
                path.write_bytes(content)
                options += ["--secret", f"id={name},src={path}"]
        yield options


def apt_sources() -> bytes:
    try:
        return mirror().sources().encode()
    except Trouble:
        return b""  # not a Debian: the base image's own sources have to do


def ca_bundle() -> bytes:
    """The machine's CA certificates, where it names some; those of a corporate proxy are among them."""
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = os.environ.get(name, "")
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return b""


def pip_conf() -> bytes:
    """How pip is configured here, as far as it means something elsewhere."""
    answer = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    config = configparser.RawConfigParser()
    config.add_section("global")
    for line in answer.stdout.splitlines():
        found = re.fullmatch(r"(?:global|install|:env:)\.(.*?)='(.*)'", line)
        if found:
            name = found[1].lstrip(".")
            if name in ("index-url", "extra-index-url", "trusted-host", "default-timeout", "timeout", "proxy"):
                config.set("global", name.removeprefix("default-"), found[2].replace("\\n", "\n  "))
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stream:
        config.write(stream)
        stream.seek(0)
        return stream.read().encode()


# --- what Docker says ---


def exists(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def megabytes(image: str) -> int:
    answer = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True)
    return round(int(json.loads(answer.stdout)[0]["Size"]) / 1e6)


if __name__ == "__main__":
    sys.exit(main())

"""Images of one static program, written as `docker save` writes them, without Docker."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def image(path: Path, name: str, program: Path, *arguments: str) -> Path:
    """Write an archive that `ctr images import` takes.

    :param path: where it goes.
    :param name: of the image, with a tag.
    :param program: becomes ``/program``, the entry point.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        header = tarfile.TarInfo("program")
        header.size, header.mode = program.stat().st_size, 0o755
        with program.open("rb") as stream:
            tar.addfile(header, stream)
    config = {
        "architecture": _architecture(program),
        "os": "linux",
        "config": {"Entrypoint": ["/program", *arguments], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getbuffer()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, mode="w") as tar:
        for file, content in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            header = tarfile.TarInfo(file)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def _architecture(program: Path) -> str:
    """What the program was built for, from its ELF header."""
    machine = int.from_bytes(program.read_bytes()[18:20], "little")
    return {62: "amd64", 183: "arm64"}[machine]

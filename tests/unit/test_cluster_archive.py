"""The images that the test cluster makes of its own programs."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from pathlib import Path

from cluster.archive import image


def test_an_archive_holds_the_program_and_describes_itself_by_its_digest(tmp_path: Path) -> None:
    program = Path(sys.executable).resolve()  # any ELF file
    path = image(tmp_path / "image.tar", "trunkline.test/thing:1", program, "-flag")
    with tarfile.open(path) as tar:
        parts = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        layer, described, manifest = (
            stream.read()
            for stream in (parts["layer.tar"], parts["config.json"], parts["manifest.json"])
            if stream is not None
        )
    config = json.loads(described)
    assert json.loads(manifest)[0]["RepoTags"] == ["trunkline.test/thing:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert config["config"]["Entrypoint"] == ["/program", "-flag"]
    assert config["config"]["User"] == "65532:65532"

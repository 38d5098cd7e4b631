"""The contracts as protoc of another language takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.outside.pages.pages import ROOT

PROTOS = sorted((ROOT / "proto").rglob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: str(path.stem))
def test_go_finds_its_package(proto: Path) -> None:
    """protoc-gen-go refuses a file that does not say where its code belongs."""
    assert 'option go_package = "fraudstream/v1;fraudstreamv1";' in proto.read_text()


def test_java_gets_a_class_for_each_message(tmp_path: Path) -> None:
    """One public class each, in the package, as Java programs import them."""
    protoc = shutil.which("protoc")
    if protoc is None:
        pytest.skip("no protoc on the PATH (Debian: protobuf-compiler)")
    messages = {
        name
        for proto in PROTOS
        for name in re.findall(r"^(?:message|enum) (\w+)", proto.read_text(), re.MULTILINE)
    }

    subprocess.run(
        [protoc, f"--proto_path={ROOT / 'proto'}", f"--java_out={tmp_path}", *PROTOS], check=True
    )

    assert messages <= {made.stem for made in (tmp_path / "fraudstream" / "v1").glob("*.java")}

"""Card numbers that others seal by the page alone: in JavaScript, and by the client's function."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from nacl.public import PrivateKey

from fraudstream.keys.box_keys import BoxKeys
from services.ingest.pan_opener import PanOpener
from tests.outside.clients.grpc_js import GrpcJs
from tests.outside.pages.pages import ROOT, blocks_of
from training.simulator.messages import pan_of

PAGE: Final = (ROOT / "docs" / "data.md").read_text()
SECTION: Final = PAGE.partition("\n## Sealed card numbers\n")[2].partition("\n## ")[0]
KEY: Final = PrivateKey.generate()
OPENER: Final = PanOpener(BoxKeys([KEY]))


def test_libsodium_in_javascript_seals_what_ingest_opens(grpc_js: GrpcJs) -> None:
    """Numbers of every length, ids with every mark that an id may have."""
    marks = "".join(map(chr, range(33, 96)))
    records = [
        {"bank_id": "bank-north", "transaction_id": name, "pan": pan}
        for name, pan in (
            ("t-1", pan_of(1)),
            (marks, pan_of(2)),
            ("a b", "4" * 19),
            ("x", "5" * 12),
        )
    ]

    sealed = grpc_js.seal(records, bytes(KEY.public_key))

    assert [set(one) for one in sealed] == [
        {"bank_id", "transaction_id", "pan_sealed", "pan_key_id"}
    ] * len(records)
    assert [OPENER.open_fields(one) for one in sealed] == records


def test_program_of_the_page_prints_a_sealed_record() -> None:
    """As it stands there, with a key of ours in the place of the page's."""
    (program,) = [block.text for block in blocks_of(SECTION) if block.language == "python"]
    ours = program.replace(program.split('fromhex("')[1].split('"')[0], bytes(KEY.public_key).hex())

    printed = subprocess.run(
        [sys.executable, "-c", ours], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout

    opened = OPENER.open_fields(json.loads(printed))
    assert opened is not None
    assert opened["pan"] == "4" + 14 * "0" + "2"


def test_lines_of_the_page_in_javascript_are_those_that_are_tested() -> None:
    """What the page shows stands in the script that is run."""
    (lines,) = [block.text for block in blocks_of(SECTION) if block.language == "js"]
    script = (ROOT / "tests" / "outside" / "clients" / "node" / "seal.mjs").read_text()

    assert [line for line in lines.splitlines() if line.strip() not in script] == []

"""docs/security.md: the certificates that its openssl commands make open scoring's doors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc
import pytest

from fraudstream.grpc_access import ClientTls
from fraudstream.v1.scoring_pb2 import ScoreRequest
from services.features.settings import FeaturesSettings
from services.scoring.settings import ScoringSettings
from tests.integration.scoring_doors.test_access import INTERNAL_BATCH, SCORE, status_of
from tests.outside.pages.page_run import PageRun, steps_of
from tests.outside.pages.pages import ROOT, blocks_of
from tests.worlds.scoring_world import batch_of, feature_rows, scoring_world, some_transaction

PAGE: Final = (ROOT / "docs" / "security.md").read_text()
_SCORING, _FEATURES = "FRAUD_SCORING_", "FRAUD_FEATURES_SCORING_"


@pytest.mark.slow
async def test_certificates_of_the_page_open_the_door_of_their_role(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """With a client certificate of that CA only, and for the role of its name only."""
    steps = [step for block in blocks_of(PAGE) for step in steps_of(block)]
    made = PageRun(steps, tmp_path, {}, tmp_path / "page.log")
    try:
        made.run(60.0)
    finally:
        made.end()
    files = {name: tmp_path / file for name, file in _table()}
    told = {
        name.removeprefix(_SCORING).lower(): path
        for name, path in files.items()
        if name.startswith(_SCORING)
    }
    ca, cert, key = (files[f"{_FEATURES}{name}_FILE"] for name in ("CA", "CERT", "KEY"))
    rows = batch_of(feature_rows([some_transaction(1)])).SerializeToString()
    call = ScoreRequest(transaction=some_transaction(2)).SerializeToString()

    async with scoring_world(topics, None, is_open=True, **told) as world:
        mine, none = ClientTls(ca, cert, key).credentials(), ClientTls(ca).credentials()
        known, _ = await status_of(world.channel(1, mine), INTERNAL_BATCH, rows)
        elsewhere, _ = await status_of(world.channel(0, mine), SCORE, call)
        nobody, _ = await status_of(world.channel(1, none), INTERNAL_BATCH, rows)

    assert known is grpc.StatusCode.OK
    assert elsewhere is grpc.StatusCode.PERMISSION_DENIED
    assert nobody is grpc.StatusCode.UNAVAILABLE


def test_variables_of_the_table_are_settings() -> None:
    """Each is read by the service that the table says."""
    fields = {
        **{f"FRAUD_SCORING_{name.upper()}": "scoring" for name in ScoringSettings.model_fields},
        **{f"FRAUD_FEATURES_{name.upper()}": "features" for name in FeaturesSettings.model_fields},
    }

    assert [name for name, _ in _table() if name not in fields] == []


def _table() -> list[tuple[str, str]]:
    """Return variable and file of each row."""
    section = PAGE.partition("### Certificates by openssl")[2]
    return re.findall(r"^\| \w+ \| `(FRAUD_\w+)` \| `([\w.]+)` \|$", section, re.MULTILINE)


def test_every_promise_names_tests_that_exist() -> None:
    """A row whose test was renamed or deleted promises nothing."""
    tables = PAGE[PAGE.index("## Card data") : PAGE.index("## Who may call scoring")]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    named = [re.findall(r"`([\w/]+/test_\w+\.py)`", row.split("|")[3]) for row in promises]

    assert len(promises) > 30
    assert [row for row, tests in zip(promises, named, strict=True) if not tests] == []
    assert [one for tests in named for one in tests if not (ROOT / "tests" / one).is_file()] == []


def test_every_place_of_a_promise_exists() -> None:
    """Files that the page names as where a promise is kept."""
    places = re.findall(r"`((?:fraudstream|services|ops|k8s)/[\w./-]*)`", PAGE)

    assert [place for place in places if not (ROOT / place).exists()] == []

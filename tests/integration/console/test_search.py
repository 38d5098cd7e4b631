"""The ids by which the console finds an alert."""

from __future__ import annotations

import pytest

from services.console.runtime import ENVIRON_KEY, Runtime
from tests.browser.alerts import START_MS, AlertSpec, make_alert, record_of
from tests.browser.console_tables import clear_tables


@pytest.mark.parametrize("name", ["alert", "decision", "transaction", "card", "merchant"])
def test_search_finds_an_alert_by_each_id_that_people_have_in_hand(name: str) -> None:
    """Also by its decision's, which is what callers and consumers of decisions keep."""
    clear_tables()
    from django.contrib.auth.models import User
    from django.test import Client

    from services.console.alerts.record import read_alert
    from services.console.alerts.store import AlertStore

    wanted, other = make_alert(AlertSpec(1)), make_alert(AlertSpec(2, merchant="Casino Lumen"))
    for alert in (wanted, other):
        read = read_alert(record_of(alert))
        assert read is not None
        AlertStore(clock_ms=lambda: START_MS).write([read])
    analyst = Client()
    vars(analyst)["defaults"][ENVIRON_KEY] = Runtime(clock_ms=lambda: START_MS)
    analyst.force_login(User.objects.create(username="grace"))
    ids = {
        "alert": wanted.alert_id,
        "decision": wanted.decision.decision_id,
        "transaction": wanted.decision.transaction.transaction_id,
        "card": wanted.decision.card_token,
        "merchant": wanted.decision.transaction.merchant_id,
    }

    page = analyst.post("/search", {"q": ids[name]}).content.decode()

    assert f"/alerts/{wanted.alert_id}" in page
    assert f"/alerts/{other.alert_id}" not in page

"""Settling in the browser: by key, by button, by two analysts at once, and not by strangers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, StorageState, expect

from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.label_pb2 import (
    DISPOSITION_CONFIRMED_FRAUD,
    DISPOSITION_GENUINE,
    DISPOSITION_UNDETERMINED,
    LABEL_SOURCE_ANALYST,
)
from harness.processes import wait_until
from tests.browser.alerts import AlertSpec, make_alert
from tests.browser.conftest import LogIn
from tests.browser.console_server import ConsoleServer

pytestmark = pytest.mark.browser
LABEL_S = 20.0


def _open(page: Page, alert: Alert) -> None:
    """Open an alert's page and wait until its keys are armed."""
    page.goto(f"/alerts/{alert.alert_id}")
    page.wait_for_selector("body[data-armed]")


@pytest.mark.parametrize(
    ("key", "disposition"),
    [
        ("f", DISPOSITION_CONFIRMED_FRAUD),
        ("g", DISPOSITION_GENUINE),
        ("u", DISPOSITION_UNDETERMINED),
    ],
)
def test_a_key_settles_an_alert_and_writes_one_label(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int], key: str, disposition: int
) -> None:
    """One key, one label with transaction, disposition and analyst; the next alert opens."""
    alert, other = (make_alert(AlertSpec(next(numbers))) for _ in range(2))
    console.raise_alerts([alert, other])
    page = log_in("analyst")

    _open(page, alert)
    page.keyboard.press(key)
    expect(page.locator(".note")).to_contain_text("Settled as")
    assert wait_until(lambda: len(console.labels_of(alert)) > 0, LABEL_S)

    [label] = console.labels_of(alert)
    spent = alert.decision.transaction
    assert (label.disposition, label.source) == (disposition, LABEL_SOURCE_ANALYST)
    assert (label.analyst, label.card_token) == ("analyst", spent.card_token)
    assert (label.event_time_ms, label.terminal_id) == (spent.event_time_ms, spent.terminal_id)
    assert "/alerts/" in page.url
    assert alert.alert_id not in page.url


def test_a_button_settles_as_a_key_does(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """The page of a settled alert says by whom it was settled, and offers no more buttons."""
    alert = make_alert(AlertSpec(next(numbers)))
    console.raise_alerts([alert])
    page = log_in("analyst")

    _open(page, alert)
    page.get_by_role("button", name="Confirmed fraud").dblclick()
    expect(page.locator(".note")).to_be_visible()
    page.goto(f"/alerts/{alert.alert_id}")

    expect(page.locator(".settle")).to_contain_text("Settled by analyst")
    expect(page.locator("form[data-once]")).to_have_count(0)
    assert wait_until(lambda: len(console.labels_of(alert)) == 1, LABEL_S)


def test_a_key_held_or_pressed_twice_settles_one_alert(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """The alert that opens next cannot be settled by the same press."""
    alerts = [make_alert(AlertSpec(next(numbers), amount_minor=555_000_000)) for _ in range(3)]
    console.raise_alerts(alerts)
    page = log_in("analyst")

    _open(page, alerts[0])
    page.keyboard.press("g")
    page.wait_for_url(lambda url: alerts[0].alert_id not in url)
    page.keyboard.press("g")

    settled = console.query(
        "SELECT alert_id FROM alert WHERE NOT is_open AND amount_minor=555000000"
    )
    assert settled == [(alerts[0].alert_id,)]


def test_a_stale_page_cannot_settle_differently(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """The second of two analysts is told who was first and how; one label is written."""
    alert = make_alert(AlertSpec(next(numbers)))
    console.raise_alerts([alert])
    first, second = log_in("analyst"), log_in("colleague")
    _open(first, alert)
    _open(second, alert)

    first.keyboard.press("f")
    expect(first.locator(".note")).to_be_visible()
    with second.expect_response(lambda response: response.url.endswith("/settle")) as answer:
        second.keyboard.press("g")

    assert answer.value.status == 409
    expect(second.locator("main")).to_contain_text("analyst settled it as confirmed fraud")
    assert wait_until(lambda: len(console.labels_of(alert)) > 0, LABEL_S)
    [label] = console.labels_of(alert)
    assert label.disposition == DISPOSITION_CONFIRMED_FRAUD


def test_a_form_of_another_site_is_refused(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """Without the page's token, or from another origin, nothing is settled."""
    alert = make_alert(AlertSpec(next(numbers)))
    console.raise_alerts([alert])
    page = log_in("analyst")
    form: dict[str, str | float | bool] = {"disposition": "genuine", "version": "0"}

    address = f"/alerts/{alert.alert_id}/settle"
    without_token = page.request.post(address, form=form)
    foreign = page.request.post(address, form=form, headers={"Origin": "https://evil.example"})

    assert (without_token.status, foreign.status) == (403, 403)
    assert console.query("SELECT is_open FROM alert WHERE alert_id=?", [alert.alert_id]) == [(1,)]


def test_a_stranger_sees_only_the_login(
    console: ConsoleServer, log_in: LogIn, sessions: dict[str, StorageState]
) -> None:
    """Every page but the login sends a stranger to the login; after logging out one is again."""
    page = log_in("colleague")
    sessions.pop("colleague")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")

    for path in ("/", "/queue/newer?after=0", f"/alerts/{'a' * 32}"):
        page.goto(path)
        assert "/login?next=" in page.url

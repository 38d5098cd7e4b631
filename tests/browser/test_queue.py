"""The queue: what is shown, in which order, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.alerts import START_MS, AlertSpec, make_alert
from tests.browser.conftest import LogIn
from tests.browser.console_server import ConsoleServer

pytestmark = pytest.mark.browser


def _link(alert_id: str) -> str:
    return f"a[href='/alerts/{alert_id}']"


def test_an_alert_from_kafka_appears_in_the_queue(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """An alert shows its expected loss, amount with currency, score, action, reason and card."""
    spec = AlertSpec(next(numbers), amount_minor=1_234_500, currency="JPY", score=0.5)
    alert = make_alert(spec)
    console.raise_alerts([alert])

    page = log_in("analyst")
    row = page.locator(f"[data-row]:has({_link(alert.alert_id)})")

    for text in ("6\u2009172.50 EUR", "1\u2009234\u2009500 JPY", "50.0", "review", spec.reason):
        expect(row).to_contain_text(text)
    expect(row).to_contain_text(f"…{alert.decision.card_token[-8:]}")
    expect(row).not_to_contain_text(alert.decision.card_token)


def test_the_highest_expected_loss_comes_first(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """Alerts are listed by expected loss, whatever order they came in."""
    amounts = (30_000_000, 50_000_000, 40_000_000)
    alerts = [make_alert(AlertSpec(next(numbers), amount_minor=amount)) for amount in amounts]
    console.raise_alerts(alerts)

    page = log_in("analyst")
    links = page.locator("[data-open]").evaluate_all(
        "found => found.map(link => link.getAttribute('href'))"
    )

    wanted = [f"/alerts/{alerts[place].alert_id}" for place in (1, 2, 0)]
    assert links[:3] == wanted


def test_keys_move_the_mark_and_open_an_alert(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """j and k move the mark; o opens the marked alert; q goes back."""
    top, second = (
        make_alert(AlertSpec(next(numbers), amount_minor=amount))
        for amount in (900_000_000, 800_000_000)
    )
    console.raise_alerts([top, second])
    page = log_in("analyst")

    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("j")
    page.keyboard.press("o")
    page.wait_for_url(f"**/alerts/{second.alert_id}")
    page.keyboard.press("k")
    page.wait_for_url(f"**/alerts/{top.alert_id}")
    page.keyboard.press("q")

    page.wait_for_url(f"{console.address}/")


def test_newer_alerts_are_announced_and_do_not_move_rows(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """An alert that comes while the queue is shown is announced; r shows it."""
    console.raise_alerts([make_alert(AlertSpec(next(numbers)))])
    page = log_in("analyst")
    newer = make_alert(AlertSpec(next(numbers), amount_minor=700_000_000))
    console.raise_alerts([newer])

    expect(page.locator("[data-newer]")).to_contain_text("1 new alert", timeout=15_000)
    expect(page.locator(_link(newer.alert_id))).to_have_count(0)
    page.keyboard.press("r")

    expect(page.locator(_link(newer.alert_id))).to_have_count(1)


@pytest.mark.parametrize("query", ["sort=password", "page=0", "page=-1", "page=1000000000"])
def test_an_unknown_order_or_page_is_refused(log_in: LogIn, query: str) -> None:
    """Order and page are taken from a list of what is allowed."""
    response = log_in("analyst").goto(f"/?{query}")

    assert response is not None
    assert response.status == 400


def test_hostile_text_is_shown_as_text(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """Markup in a merchant's name or a reason runs nothing (the fixture listens for complaints)."""
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    alert = make_alert(
        AlertSpec(next(numbers), amount_minor=600_000_000, merchant=hostile, reason=hostile)
    )
    console.raise_alerts([alert])
    page = log_in("analyst")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))

    page.goto(f"/alerts/{alert.alert_id}")

    expect(page.locator(".reasons li").first).to_contain_text(hostile)
    expect(page.locator(".where")).to_contain_text(hostile)
    expect(page.locator("main img, main script")).to_have_count(0)
    assert dialogs == []


def test_a_card_number_does_not_leave_the_search_box(console: ConsoleServer, log_in: LogIn) -> None:
    """What looks like a card number is refused before it is sent."""
    page = log_in("analyst")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))

    page.keyboard.press("/")
    page.keyboard.type("4111 " + "1" * 4 + " " + "1" * 4 + " " + "1" * 4)
    page.keyboard.press("Enter")

    expect(page.locator(".search-refusal")).to_be_visible()
    assert [address for address in sent if address.endswith("/search")] == []


def test_search_finds_an_alert_by_its_card_token(
    console: ConsoleServer, log_in: LogIn, numbers: Iterator[int]
) -> None:
    """A whole card token finds the card's alerts."""
    alert = make_alert(AlertSpec(next(numbers), raised_at_ms=START_MS + 1))
    console.raise_alerts([alert])
    page = log_in("analyst")

    page.fill("input[type=search]", alert.decision.card_token)
    page.press("input[type=search]", "Enter")

    expect(page.locator(_link(alert.alert_id))).to_have_count(1)

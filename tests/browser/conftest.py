"""One browser and one console for all browser tests; each test raises alerts of its own."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    StorageState,
    sync_playwright,
)

from harness.servers import Broker
from tests.browser.console_server import ConsoleServer

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LogIn = Callable[[str], Page]


@pytest.fixture(scope="package")
def chromium(browser_path: Path) -> Iterator[Browser]:
    """A browser. It ends with this package: its event loop must not meet asynchronous tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def console(
    browser_path: Path, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConsoleServer]:
    """A console, running, with topics of its own."""
    prefix = {"FRAUD_KAFKA_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}-"}
    folder = tmp_path_factory.mktemp("console")
    server = ConsoleServer(broker.bootstrap, {**broker.environment(), **prefix}, folder)
    server.create_topics()
    server.process.start()
    yield server
    server.process.stop()


@pytest.fixture(scope="package")
def sessions() -> dict[str, StorageState]:
    """Cookies of users who logged in before: a password check is slow on purpose."""
    return {}


@pytest.fixture
def log_in(
    chromium: Browser, console: ConsoleServer, sessions: dict[str, StorageState]
) -> Iterator[LogIn]:
    """Open the queue as a user, in a browser context of its own.

    The test fails if a page breaks the content security policy or a script fails.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def listen(line: ConsoleMessage) -> None:
        if "Security Policy" in line.text:
            complaints.append(line.text)

    def open_as(name: str) -> Page:
        context = chromium.new_context(base_url=console.address, storage_state=sessions.get(name))
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", listen)
        page.goto("/")
        if name not in sessions:
            type_login(page, name, f"{name}-demo")
            page.wait_for_url(f"{console.address}/")
            sessions[name] = context.storage_state()
        return page

    yield open_as
    for context in contexts:
        context.close()
    assert complaints == []


def type_login(page: Page, name: str, password: str) -> None:
    """Fill in the login form and send it."""
    page.fill("#username", name)
    page.fill("#password", password)
    page.click("main button[type=submit]")


@pytest.fixture(scope="package")
def numbers() -> Iterator[int]:
    """Numbers for alerts that no other test uses."""
    return itertools.count(1)

"""A real browser: Chromium (BKT_CHROMIUM, or chromium on the PATH), driven by the package playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TIMEOUT = 300  # seconds; a busy machine starts processes slowly
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


def find_chromium() -> str:
    """The path of the browser; skips the test where there is none."""
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("BKT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH, and BKT_CHROMIUM names none")
    return found


@contextmanager
def running_browser(*more: str) -> Iterator["Browser"]:
    """Start the browser with more arguments of its command line."""
    executable = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=[*ARGUMENTS, *more], timeout=1000 * TIMEOUT
        )
        yield browser
        browser.close()

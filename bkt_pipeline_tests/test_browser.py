"""The Dagster UI as a person uses it: a real browser on `bkt-pipeline ui`, on a fresh home with the synthetic school.

Runs with BKT_BROWSER=1 and needs Chromium (BKT_CHROMIUM, or chromium on the PATH) and the package playwright; is
skipped, and says so, without. BKT_SCREENSHOTS names a folder that keeps what was seen.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bkt_pipeline_tests.conftest import PROJECT

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE = 300  # seconds; a busy machine starts processes slowly
COMMAND = "import sys; from bkt_pipeline.cli import main; sys.exit(main())"
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
SKILL = "fractions-add"
GROUPS = "%2C".join(f"global%40global%3A{group}" for group in ("platform", "calibration", "items"))


@pytest.fixture(scope="module")
def chromium() -> str:
    if not os.environ.get("BKT_BROWSER"):
        pytest.skip("BKT_BROWSER=1 walks through the UI in a real browser; it takes some minutes")
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    found = os.environ.get("BKT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("no chromium on the PATH, and BKT_CHROMIUM names none")
    return found


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("BKT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def ui(chromium: str) -> Iterator[str]:
    """The address of `bkt-pipeline ui` after one night."""
    home = Path(tempfile.mkdtemp(prefix="bkt-ui-"))
    if os.geteuid() == 0:
        home.chmod(0o711)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "DATABASE"))}
    environment = own | {"BKT_PIPELINE_HOME": str(home), "PYTHONPATH": str(PROJECT)}
    run = [sys.executable, "-c", COMMAND]
    subprocess.run([*run, "nightly"], env=environment, cwd=home, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (home / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            [*run, "ui", "--port", str(port)],
            env=environment,
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for_answer(f"http://127.0.0.1:{port}/server_info", process, home / "ui.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # The embedded server notices that nobody uses it, and stops, some seconds later.
        shutil.rmtree(home, ignore_errors=True)


def _wait_for_answer(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"the UI did not come up:\n{log.read_text()[-2000:]}")


@pytest.fixture
def page(ui: str, chromium: str) -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, base_url=ui)
        page.set_default_timeout(45_000)
        yield page
        browser.close()


def test_a_person_finds_their_way(page: "Page", shots: Path) -> None:
    def shoot(name: str) -> None:
        page.wait_for_timeout(1000)
        page.screenshot(path=shots / f"{name}.png")

    # Lineage, from the platform's tables to the summary.
    page.goto(f"/asset-groups?expanded={GROUPS}")
    for asset in ("skills", "items", "attempts", "active_skills", "attempt_window", "nightly_summary"):
        page.get_by_text(asset, exact=True).last.wait_for(state="attached")
    shoot("lineage")

    # A check, partition by partition.
    page.goto("/assets/skill_bkt_params?view=checks&checkDetail=log_likelihood_holds_out")
    page.get_by_role("tab", name="Execution history").wait_for()
    page.get_by_role("tab", name="Partitions").last.click()
    page.get_by_text(re.compile(r"Passed\s*\(\d\d\)")).wait_for()
    shoot("check-partitions")

    # The plot over nights and skills.
    page.goto("/assets/skill_bkt_params")
    page.get_by_role("button", name="Plots").click()
    page.locator("canvas").first.wait_for()
    page.get_by_role("button", name="Plots").scroll_into_view_if_needed()
    shoot("plots")

    # The backfill dialog.
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_text("64 partitions").first.wait_for()
    shoot("backfill")
    page.get_by_role("button", name="Cancel").click()

    # One skill, launched by clicking, until it is green.
    page.goto(f"/assets/skill_bkt_params?view=partitions&partition={SKILL}")
    page.get_by_text("View all historical events (1)").wait_for()
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Launch 1 run").click()
    second = page.get_by_text("View all historical events (2)")
    end = time.monotonic() + PATIENCE
    while not second.is_visible() and time.monotonic() < end:
        page.reload()
        page.get_by_text("View all historical events").wait_for()
        page.wait_for_timeout(2000)
    assert second.is_visible()
    page.get_by_text("Materialized", exact=True).first.wait_for()
    page.get_by_text("Show Markdown").click()
    picture = page.locator("img[src^='data:image/png']")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300
    shoot("skill")

    # The morning's summary.
    page.goto("/assets/nightly_summary")
    page.get_by_text("Show Markdown").first.click()
    page.locator("img[src^='data:image/png']").wait_for()
    shoot("summary")

"""The Dagster UI as a person uses it: a real browser on `bkt-pipeline ui`, on a fresh home with the synthetic school.

Needs Chromium and the package playwright (see helpers/browser.py); is skipped, and says so, without.
BKT_SCREENSHOTS names a folder that keeps what was seen.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bkt_pipeline_tests.conftest import PROJECT
from bkt_pipeline_tests.helpers.browser import TIMEOUT, find_chromium, running_browser
from bkt_pipeline_tests.helpers.processes import COMMAND
from bkt_pipeline_tests.helpers.ui import UI, running_ui

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SKILL = "fractions-add"
UNSURE = "angles-polygons"  # five students
SIX_ARE_GREEN = """() => [...document.querySelectorAll("div")].filter(one => {
    const [r, g, b] = getComputedStyle(one).borderTopColor.match(/[\\d.]+/g).map(Number)
    return one.offsetWidth > 40 && g > r + 60 && g > b + 20
}).length >= 6"""
GROUPS = "%2C".join(f"global%40global%3A{group}" for group in ("platform", "calibration", "items"))


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("BKT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def ui() -> Iterator[UI]:
    """`bkt-pipeline ui` after one night."""
    find_chromium()
    home = Path(tempfile.mkdtemp(prefix="bkt-ui-"))
    if os.geteuid() == 0:
        home.chmod(0o711)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "DATABASE"))}
    environment = own | {"BKT_PIPELINE_HOME": str(home), "PYTHONPATH": str(PROJECT)}
    subprocess.run([*COMMAND, "nightly"], env=environment, cwd=home, check=True, capture_output=True)
    with running_ui(environment, home) as ui:
        yield ui
    # The embedded server notices that nobody uses it, and stops, some seconds later.
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def page(ui: UI) -> Iterator["Page"]:
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900}, base_url=ui.origin)
        page.set_default_timeout(1000 * TIMEOUT)
        page.goto(ui.address)
        yield page


def visit(page: "Page", address: str, until: Callable[[], "Locator"]) -> "Locator":
    """Open the page and wait for what it must show; load it again where that does not come."""
    from playwright.sync_api import Error

    end = time.monotonic() + TIMEOUT
    while True:
        try:
            page.goto(address, timeout=1000 * TIMEOUT / 3)
            shown = until()
            shown.wait_for(timeout=1000 * TIMEOUT / 6)
            return shown
        except Error:
            if time.monotonic() > end:
                raise


def show_page(page: "Page", address: str, pictures: int) -> None:
    """Open an asset and then its page, which must hold so many pictures that the browser can draw."""
    visit(page, address, lambda: page.get_by_text("Show Markdown").first).click()
    shown = page.locator("img[src^='data:image/svg']")
    shown.first.wait_for()
    assert [one.evaluate("image => image.naturalWidth") for one in shown.all()] == [900] * pictures
    assert all(one.get_attribute("alt") for one in shown.all())


def shoot(page: "Page", shots: Path, name: str) -> None:
    """Take a screenshot once the page has stopped changing."""
    before = None
    for _ in range(20):
        seen = page.screenshot(animations="disabled")
        if seen == before:
            break
        before = seen
        page.wait_for_timeout(300)
    (shots / f"{name}.png").write_bytes(seen)


def test_the_ui_can_be_used_from_lineage_to_a_launched_run(page: "Page", ui: UI, shots: Path) -> None:
    # Lineage, from the platform's tables to the summary.
    visit(
        page, f"/asset-groups?expanded={GROUPS}", lambda: page.get_by_text("nightly_summary", exact=True).last
    )
    for asset in ("skills", "items", "attempts", "active_skills", "attempt_window", "item_irt_params"):
        page.get_by_text(asset, exact=True).last.wait_for(state="attached")
    page.wait_for_function(SIX_ARE_GREEN)
    shoot(page, shots, "lineage")

    # A check, partition by partition.
    check = "/assets/skill_bkt_params?view=checks&checkDetail=parameters_are_identified"
    visit(page, check, lambda: page.get_by_role("tab", name="Execution history"))
    page.get_by_role("tab", name="Partitions").last.click()
    page.get_by_text(re.compile(r"Passed\s*\(\d\d\)")).wait_for()
    page.get_by_text(UNSURE).first.click()
    page.get_by_text("what_to_do").wait_for()
    shoot(page, shots, "check-partitions")

    # The plot over nights and skills.
    visit(page, "/assets/skill_bkt_params", lambda: page.get_by_role("button", name="Plots")).click()
    page.locator("canvas").first.wait_for()
    page.get_by_role("button", name="Plots").scroll_into_view_if_needed()
    shoot(page, shots, "plots")

    # The backfill dialog.
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_text("64 partitions").first.wait_for()
    shoot(page, shots, "backfill")
    page.get_by_role("button", name="Cancel").click()

    # The launchpad, with what does not come from the environment filled in.
    pad = "/locations/bkt_pipeline/jobs/calibration/playground"
    visit(page, pad, lambda: page.get_by_text("as_of").first)
    for setting in ("as_of", "publish"):
        page.get_by_text(setting).first.wait_for()
    shoot(page, shots, "launchpad")

    # One skill, launched by clicking, until it is green.
    history = page.get_by_text("View all historical events")
    one_skill = f"/assets/skill_bkt_params?view=partitions&partition={SKILL}"
    visit(page, one_skill, lambda: page.get_by_text("View all historical events (1)"))
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("Launched run").first.wait_for()
    end = time.monotonic() + TIMEOUT
    while visit(page, one_skill, lambda: history).inner_text() != "View all historical events (2)":
        assert time.monotonic() < end, "the run that was launched has not ended"
        page.wait_for_timeout(2000)
    page.get_by_text("Materialized", exact=True).first.wait_for()

    # Its page, in the light and in the dark UI.
    show_page(page, one_skill, pictures=1)
    shoot(page, shots, "skill")
    page.emulate_media(color_scheme="dark")
    shoot(page, shots, "skill-dark")

    # The page to read in the morning.
    show_page(page, "/assets/nightly_summary", pictures=2)
    shoot(page, shots, "summary-dark")
    page.emulate_media(color_scheme="light")
    for section in ("What to do", "Largest moves", "Items", "Age of the parameters that the backend reads"):
        page.get_by_role("heading", name=section).wait_for()
    shoot(page, shots, "summary")

    # How far the night's run was, in its log.
    run = list(ui.runs("calibration"))[-1]
    log = f"/runs/{run}?levels=info&logs=of%2064%20skills"
    visit(page, log, lambda: page.get_by_text("read the windows of 64 of 64 skills").first)
    page.get_by_text(re.compile("^64 of 64 skills: .* calibrated")).first.wait_for()
    shoot(page, shots, "run")

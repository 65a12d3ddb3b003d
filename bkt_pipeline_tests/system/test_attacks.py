"""`bkt-pipeline ui` under attack: by pages of other sites in a real browser, by other accounts, by files of the folder."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bkt_pipeline_tests.conftest import PROJECT
from bkt_pipeline_tests.helpers.answer_files import write_answers
from bkt_pipeline_tests.helpers.browser import TIMEOUT, running_browser
from bkt_pipeline_tests.helpers.processes import COMMAND, PROC, descendants
from bkt_pipeline_tests.helpers.ui import LAUNCH, UI, running_ui

pytest.importorskip("dagster_webserver", reason="the extra `ui` is not installed")

MODULES = (
    "secrets",
    "gql",
    "json",
    "typing",
    "dagster",
    "grpc",
    "bkt_pipeline",
    "sitecustomize",
    "usercustomize",
)
DOTENV = "BKT_FROM_DOTENV"
JOB = "active_skills_job"
SELECTOR = {
    "repositoryLocationName": "bkt_pipeline",
    "repositoryName": "__repository__",
    "jobName": JOB,
}
MUTATION = {
    "query": LAUNCH,
    "variables": {"run": {"selector": SELECTOR, "runConfigData": "{}", "mode": "default"}},
}
# What a page can do without being asked: each line sends the mutation in another way.
PAGE = """<!DOCTYPE html><title>attack</title><iframe name="sink" src="TARGET/"></iframe><script>
const body = BODY, get = "TARGET/graphql?query=" + encodeURIComponent(body.query) + "&variables=" +
    encodeURIComponent(JSON.stringify(body.variables));
const post = (type, options) => fetch("TARGET/graphql", {method: "POST", credentials: "include",
    headers: {"Content-Type": type}, body: JSON.stringify(body), ...options});
const form = encoding => {
    const form = Object.assign(document.createElement("form"),
        {method: "POST", action: get, enctype: encoding, target: "sink"});
    form.append(Object.assign(document.createElement("input"), {name: JSON.stringify(body), value: ""}));
    document.body.append(form); form.submit();
};
const image = () => new Promise(done => Object.assign(new Image(), {onload: done, onerror: done, src: get}));
const socket = () => new Promise(done => {
    const socket = new WebSocket("TARGET/graphql".replace("http", "ws"), "graphql-ws");
    socket.onopen = () => done("open"); socket.onerror = () => done("refused");
});
window.attack = async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
        await post(type, {mode: "no-cors"}).catch(() => 0);
    await post("application/json", {}).catch(() => 0);
    await image();
    for (const encoding of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) form(encoding);
    const seen = await fetch("TARGET/server_info", {credentials: "include"}).then(a => a.text(), () => "unreadable");
    return [await socket(), seen];
};
</script>"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder whose files would be executed or read by a careless program."""
    folder = Path(tempfile.mkdtemp(prefix="bkt-attack-"))
    folder.chmod(0o711)
    for module in MODULES:
        (folder / f"{module}.py").write_text(f"open({str(folder / 'executed')!r}, 'a').write('{module} ')\n")
    (folder / ".env").write_text(f"{DOTENV}=1\nDATABASE_URL=postgresql://127.0.0.1:1/x\n")
    (folder / ".numba_config.yaml").write_text(f"cache_dir: {folder / 'executed'}\n")
    (folder / "matplotlibrc").write_text("backend: module://gql\n")
    yield folder
    # The embedded server notices that nobody uses it, and stops, some seconds later.
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DAGSTER", "DATABASE", "BKT_"))
    }
    return own | {"BKT_PIPELINE_HOME": str(folder / "home"), "PYTHONPATH": str(PROJECT)}


@pytest.fixture(scope="module")
def ui(folder: Path, environment: dict[str, str]) -> Iterator[UI]:
    with running_ui(environment, folder) as ui:
        yield ui


def test_a_night_takes_nothing_from_the_folder(folder: Path, environment: dict[str, str]) -> None:
    # The part of PYTHONPATH counts before any program can do something about it.
    safe = environment | {"PYTHONPATH": str(PROJECT)}
    # Each launch in the UI is followed by a whole night, so the school is small.
    write_answers(folder / "answers.csv")
    for command in (["load", "answers.csv"], ["nightly", "--json", "night.json"]):
        done = subprocess.run([*COMMAND, *command], env=safe, cwd=folder, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    assert not (folder / "executed").exists()
    assert (folder / "night.json").exists()


@pytest.mark.skipif(not PROC.exists(), reason="no /proc to read environments from")
def test_the_ui_and_its_runs_take_nothing_from_the_folder(ui: UI, folder: Path) -> None:
    run = ui.launch(JOB)
    end = time.monotonic() + TIMEOUT
    environments = set()
    while ui.runs(JOB)[run] not in ("SUCCESS", "FAILURE"):
        assert time.monotonic() < end, "the run that was launched has not ended"
        for child in descendants(ui.process.pid):
            try:
                environments.add((PROC / str(child) / "environ").read_bytes())
            except OSError:
                continue
    assert ui.runs(JOB)[run] == "SUCCESS", ui.log.read_text()
    assert not (folder / "executed").exists()
    assert environments
    assert [one for one in environments if DOTENV.encode() in one] == []
    # The run is shown in the UI; its events are not repeated on the terminal.
    assert ui.log.read_text().count(run) < 5, "the events of a run are in the UI, not on the terminal"


def test_only_this_account_reaches_the_code_server(ui: UI) -> None:
    """Its socket runs code for everyone who can write to it."""
    sockets = [path for path in ui.temporary.rglob("*") if path.is_socket()]
    assert sockets
    for path in sockets:
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0


def test_another_account_without_the_secret_gets_one_sentence(ui: UI) -> None:
    before = ui.runs(JOB)
    for method, path in (("GET", "/"), ("GET", "/server_info"), ("GET", "/graphql"), ("POST", "/graphql")):
        with closing(HTTPConnection("127.0.0.1", ui.port, timeout=TIMEOUT)) as connection:
            connection.request(method, path, json.dumps(MUTATION), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read().decode()
        assert answer.status == 403
        assert body.startswith("Open the address that `bkt-pipeline ui` printed")
        assert body.count("\n") == 1
    assert ui.runs(JOB) == before


@contextmanager
def attacking_site(target: str) -> Iterator[int]:
    """A web server of somebody else on this machine; returns its port."""
    page = PAGE.replace("TARGET", target).replace("BODY", json.dumps(MUTATION)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1"])
def test_a_page_of_another_site_starts_nothing(ui: UI, name: str) -> None:
    """With the cookie in the browser. A page on another port of 127.0.0.1 is the same site, so it is sent there."""
    before = ui.runs(JOB)
    with (
        attacking_site(ui.origin) as port,
        running_browser("--host-resolver-rules=MAP evil.example 127.0.0.1") as browser,
    ):
        context = browser.new_context()
        ours = context.new_page()
        ours.goto(ui.address, timeout=1000 * TIMEOUT)
        assert ours.url.startswith(ui.origin)
        assert "token" not in ours.url
        theirs = context.new_page()
        theirs.goto(f"http://{name}:{port}/", timeout=1000 * TIMEOUT)
        assert theirs.evaluate("attack()") == ["refused", "unreadable"]
        theirs.wait_for_timeout(2000)
        assert all("Dagster" not in frame.content() for frame in theirs.frames)
        # The same browser, from our own page: what the guard keeps out is the other site, not the mutation.
        started = ours.evaluate(
            """async body => (await fetch("/graphql", {method: "POST", headers: {"Content-Type": "application/json"},
                body: JSON.stringify(body)})).json()""",
            MUTATION,
        )
    assert set(ui.runs(JOB)) - set(before) == {started["data"]["launchRun"]["run"]["runId"]}


def test_a_foreign_host_name_that_resolves_to_this_machine_is_refused(ui: UI) -> None:
    """DNS rebinding: the page's own name resolves to 127.0.0.1 by now, so the browser sees one origin."""
    with running_browser("--host-resolver-rules=MAP evil.example 127.0.0.1") as browser:
        page = browser.new_page()
        for path in ("/", f"/?token={ui.secret}"):
            answer = page.goto(f"http://evil.example:{ui.port}{path}", timeout=1000 * TIMEOUT)
            assert answer is not None
            assert answer.status == 403
        assert page.context.cookies() == []

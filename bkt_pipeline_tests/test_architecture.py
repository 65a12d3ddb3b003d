"""Architecture rules that no other test checks."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import bkt_pipeline

PACKAGE = Path(bkt_pipeline.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))

# A module imports only its own room and the rooms before it.
ROOMS = (
    "errors",
    "settings",
    "model",
    "frames",
    "calibration",
    "embedded",
    "db",
    "windows",
    "instance",
    "defs",
    "definitions",
    "cli",
)
# Third-party packages that only some rooms or modules may import.
ONLY_IN = {
    "dagster": ("instance", "defs", "definitions", "cli"),
    "dagster_postgres": ("instance",),
    "sqlalchemy": ("db", "windows", "instance", "defs", "definitions", "cli/main.py"),
    "psycopg": ("db", "windows", "instance", "embedded"),
    "psycopg2": ("instance",),
    "alembic": ("db", "instance"),
    "numba": ("model/kernels", "model/bkt/calibrate.py"),
    "boto3": ("windows",),
    "pyarrow": ("windows", "cli/export.py"),
    "apprise": ("defs/notify",),
    "pydantic_settings": ("settings",),
    "pandas": ("frames", "db/file_times.py"),
}
# All except settings.py only pass something on: to child processes, or to Dagster, which reads the environment.
USES_OF_THE_ENVIRONMENT = {
    "settings.py": {"reads"},
    # Makes the relative paths in it absolute, before a command leaves the working folder.
    "cli/folder.py": {"reads"},
    "embedded/fallback.py": {"sets BKT_DEMO"},
    "embedded/libpq.py": {"unsets name"},
    "embedded/server.py": {"passes it on"},
    "instance/storage.py": {"sets DAGSTER_HOME", "sets DAGSTER_EVENT_BATCH_SIZE"},
}
PRIVATE_DAGSTER = {
    "dagster._core.definitions.asset_checks.asset_check_evaluation",
    "dagster._core.definitions.source_asset",
    "dagster._core.remote_origin",
    "dagster._core.workspace.context",
    "dagster._core.workspace.load_target",
}
LONGEST_MODULE = 300


def place_of(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def room_of(place: str) -> str:
    return place.split("/")[0].removesuffix(".py")


@cache
def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


@cache
def imports_of(module: Path) -> set[str]:
    """The dotted names that a module imports, including those inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_in(place: str, allowed: tuple[str, ...]) -> bool:
    return any(place == one or place.startswith(f"{one}/") or place == f"{one}.py" for one in allowed)


def test_every_module_is_in_a_room() -> None:
    assert {room_of(place_of(module)) for module in MODULES} <= {"__init__", *ROOMS}


def test_a_module_imports_its_own_room_and_the_rooms_before_it() -> None:
    wrong = []
    for module in MODULES:
        place = place_of(module)
        room = room_of(place)
        if room == "__init__":
            continue
        allowed = {"__version__", *ROOMS[: ROOMS.index(room) + 1]}
        for name in imports_of(module):
            parts = name.split(".")
            if parts[0] == "bkt_pipeline" and parts[1] not in allowed:
                wrong.append((place, name))
    assert wrong == []


def test_nothing_of_ours_is_imported_in_a_circle() -> None:
    names = {
        place_of(module).removesuffix(".py").removesuffix("/__init__").replace("/", "."): module
        for module in MODULES
    }
    arrows = {}
    for name, module in names.items():
        top_level = [
            node
            for node in tree_of(module).body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bkt_pipeline.")
        ]
        targets = set()
        for node in top_level:
            base = (node.module or "").removeprefix("bkt_pipeline.")
            for alias in node.names:
                target = f"{base}.{alias.name}"
                targets.add(target if target in names else base)
        arrows[name] = targets & set(names)
    left = dict(arrows)
    while ready := [name for name, targets in left.items() if not targets & set(left) - {name}]:
        for name in ready:
            del left[name]
    assert left == {}


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_only_where_it_belongs(package: str) -> None:
    wrong = [
        (place_of(module), name)
        for module in MODULES
        for name in imports_of(module)
        if name.split(".")[0] == package and not is_in(place_of(module), ONLY_IN[package])
    ]
    assert wrong == []


def uses_of_the_environment(module: Path) -> set[str]:
    """What a module does with os.environ: sets a variable, passes all of it to a child process, or reads it."""
    tree = tree_of(module)
    environment = {
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb")
    }
    uses = {}
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=value, slice=ast.Constant(value=name), ctx=ast.Store()):
                uses[value] = f"sets {name}"
            case ast.Call(func=ast.Attribute(value=value, attr="pop"), args=[ast.Name(id=name), *_]):
                uses[value] = f"unsets {name}"
            case ast.keyword(arg="env", value=ast.Dict(keys=keys, values=values)):
                uses |= {
                    value: "passes it on" for key, value in zip(keys, values, strict=True) if key is None
                }
    by_name = {"reads" for name in imports_of(module) if name in ("os.environ", "os.getenv")}
    return {uses.get(node, "reads") for node in environment} | by_name


def test_the_environment_is_read_in_one_place() -> None:
    uses = {place_of(module): uses_of_the_environment(module) for module in MODULES}
    assert {place: use for place, use in uses.items() if use} == USES_OF_THE_ENVIRONMENT


def test_only_dagsters_public_names_are_used() -> None:
    private = {
        (place_of(module), name.rpartition(".")[0])
        for module in MODULES
        for name in imports_of(module)
        if name.startswith(("dagster._", "dagster_postgres._", "dagster_shared"))
    }
    assert private == {("defs/private.py", name) for name in PRIVATE_DAGSTER}


def test_definitions_keep_their_annotations() -> None:
    """Dagster reads the annotations of assets, checks and sensors; the future import turns them into strings."""
    wrong = [
        place_of(module)
        for module in MODULES
        if room_of(place_of(module)) in ("defs", "definitions")
        and any(name.startswith("__future__") for name in imports_of(module))
    ]
    assert wrong == []


def test_no_module_is_long() -> None:
    lines = {place_of(module): len(module.read_text().splitlines()) for module in MODULES}
    assert {place: n for place, n in lines.items() if n > LONGEST_MODULE and "migrations" not in place} == {}


# What scripts of other teams import from a room: the model and its frames, and the instance that the UI shows.
RE_EXPORTING = ("__init__.py", "model/__init__.py", "instance/__init__.py", "frames/__init__.py")


def test_every_room_has_a_docstring_and_few_re_export() -> None:
    for module in PACKAGE.rglob("__init__.py"):
        place = place_of(module)
        tree = ast.parse(module.read_text())
        assert ast.get_docstring(tree), place
        if place not in RE_EXPORTING and "migrations" not in place:
            assert len(tree.body) == 1, place


def test_no_test_module_imports_another() -> None:
    wrong = [
        (module.name, name)
        for module in TESTS
        for name in imports_of(module)
        if name.startswith("bkt_pipeline_tests.") and ".test_" in name
    ]
    assert wrong == []


@pytest.mark.slow
def test_nothing_happens_at_import(tmp_path: Path) -> None:
    """With an empty environment, no home and an empty working folder, importing every module touches nothing."""
    program = """
import socket, sys
def refuse(*a, **k): raise AssertionError("import opens a socket")
socket.socket.connect = refuse
import bkt_pipeline.definitions, bkt_pipeline.instance.storage, bkt_pipeline.cli.main, bkt_pipeline.model
for heavy in ("numba", "scipy", "pandas", "matplotlib", "boto3", "pyarrow"):
    assert heavy not in sys.modules, f"{heavy} is loaded at import, which would slow down the start of every run"
"""
    ran = subprocess.run(
        [sys.executable, "-B", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.iterdir()) == []

"""Dockerfiles, held against BuildKit's grammar where no Docker is at hand.

No package that pip installs contains BuildKit's own check of a mount's options, so its documented table is here:
https://docs.docker.com/reference/dockerfile/#run---mount
"""

import re
import subprocess
from pathlib import Path

import pytest

from bkt_pipeline_tests.conftest import PROJECT

TARGET = {"target", "dst", "destination"}
OWNER = {"mode", "uid", "gid"}
MOUNT_OPTIONS = {
    "bind": TARGET | {"source", "src", "from", "rw", "readwrite", "ro", "readonly"},
    "cache": TARGET | OWNER | {"id", "ro", "readonly", "rw", "readwrite", "sharing", "from", "source", "src"},
    "tmpfs": TARGET | {"size"},
    "secret": TARGET | OWNER | {"id", "required", "env"},
    "ssh": TARGET | OWNER | {"id", "required"},
}
FLAGS = {
    "ADD": {"keep-git-dir", "checksum", "chmod", "chown", "link", "unpack", "exclude"},
    "COPY": {"from", "chmod", "chown", "link", "parents", "exclude"},
    "FROM": {"platform"},
    "HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"},
    "RUN": {"mount", "network", "security", "device"},
}
WITHOUT_FLAGS = {
    "ARG",
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "LABEL",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
}
DOCKERFILES = sorted(PROJECT.glob("deploy/**/Dockerfile"))


def faults(text: str) -> list[str]:
    """What BuildKit would refuse before it runs anything."""
    found = []
    uncommented = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for instruction in re.sub(r"\\\n", " ", uncommented).splitlines():
        if not instruction.strip():
            continue
        name, *words = instruction.split()
        if name.upper() not in FLAGS and name.upper() not in WITHOUT_FLAGS:
            found.append(f"unknown instruction {name}")
        for word in words:
            if not word.startswith("--"):
                break
            flag, _, value = word.removeprefix("--").partition("=")
            if flag not in FLAGS.get(name.upper(), set()):
                found.append(f"{name} has no flag --{flag}")
            elif flag == "mount":
                options = dict(part.partition("=")[::2] for part in value.split(","))
                kind = options.pop("type", "bind")
                found += [
                    f"a {kind} mount has no {option}" for option in options.keys() - MOUNT_OPTIONS[kind]
                ]
    return found


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_buildkit_accepts_the_file(file: Path) -> None:
    assert faults(file.read_text()) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("RUN --mount=type=tmpfs,target=/tmp,mode=1777 true", "a tmpfs mount has no mode"),
        ("COPY --user=1 a b", "COPY has no flag --user"),
        ("RUNS true", "unknown instruction RUNS"),
    ],
)
def test_what_buildkit_refuses_is_found(line: str, fault: str) -> None:
    assert faults(line) == [fault]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_what_is_copied_from_the_repository_is_tracked_in_it(file: Path) -> None:
    git = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if git.returncode:
        pytest.skip("not a git checkout")
    tracked = {str(part) for path in git.stdout.splitlines() for part in (Path(path), *Path(path).parents)}
    for copy in re.findall(r"^COPY (?!--from)(.+)$", file.read_text(), re.MULTILINE):
        assert set(copy.split()[:-1]) <= tracked

"""Dockerfiles in BuildKit's own parser, and their instructions against its documented tables.

The package dockerfile is that parser, without Docker. BuildKit checks instructions, flags and the options of mounts later,
so their tables are here: https://docs.docker.com/reference/dockerfile/
"""

import re
import subprocess
from pathlib import Path

import pytest

from bkt_pipeline_tests.conftest import PROJECT

dockerfile = pytest.importorskip("dockerfile", reason="BuildKit's parser has no wheel for this machine")

TARGET = {"target", "dst", "destination"}
OWNER = {"mode", "uid", "gid"}
MOUNT_OPTIONS = {
    "bind": TARGET | {"source", "src", "from", "rw", "readwrite", "ro", "readonly"},
    "cache": TARGET | OWNER | {"id", "ro", "readonly", "rw", "readwrite", "sharing", "from", "source", "src"},
    "tmpfs": TARGET | {"size"},
    "secret": TARGET | OWNER | {"id", "required", "env"},
    "ssh": TARGET | OWNER | {"id", "required"},
}
VALUES = {
    **dict.fromkeys(("ro", "readonly", "rw", "readwrite", "required"), "true|false|"),
    "sharing": "shared|private|locked",
    "mode": "[0-7]+",
    "uid": "[0-9]+",
    "gid": "[0-9]+",
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
    try:
        instructions = dockerfile.parse_string(text)
    except dockerfile.GoParseError as error:
        return [str(error)]
    found = []
    for instruction in instructions:
        name = instruction.cmd.upper()
        if name not in FLAGS and name not in WITHOUT_FLAGS:
            found.append(f"unknown instruction {name}")
        for word in instruction.flags:
            flag, _, value = word.removeprefix("--").partition("=")
            if flag not in FLAGS.get(name, set()):
                found.append(f"{name} has no flag --{flag}")
            elif flag == "mount":
                found += faults_of_mount(dict(part.partition("=")[::2] for part in value.split(",")))
    return found


def faults_of_mount(options: dict[str, str]) -> list[str]:
    kind = options.pop("type", "bind")
    if kind not in MOUNT_OPTIONS:
        return [f"unknown mount type {kind}"]
    found = [f"a {kind} mount has no {option}" for option in sorted(options.keys() - MOUNT_OPTIONS[kind])]
    found += [
        f"{option}={value} is no value of a mount"
        for option, value in options.items()
        if option in VALUES and not re.fullmatch(VALUES[option], value)
    ]
    if kind in ("bind", "cache", "tmpfs") and not TARGET & options.keys():
        found.append(f"a {kind} mount needs a target")
    return found


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_buildkit_accepts_the_file(file: Path) -> None:
    assert faults(file.read_text()) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("RUN --mount=type=tmpfs,target=/tmp,mode=1777 true", "a tmpfs mount has no mode"),
        ("RUN --mount=type=cache,target=/x,sharing=yes true", "sharing=yes is no value of a mount"),
        ("RUN --mount=type=cache,id=x true", "a cache mount needs a target"),
        ("RUN --mount=type=temp,target=/x true", "unknown mount type temp"),
        ("COPY --user=1 a b", "COPY has no flag --user"),
        ("RUNS true", "unknown instruction RUNS"),
        ("RUN <<EOF\ntrue", "unterminated heredoc"),
        ("ENV NAME", "ENV must have two arguments"),
    ],
)
def test_what_buildkit_refuses_is_found(line: str, fault: str) -> None:
    assert faults(f"FROM scratch\n{line}\n") == [fault]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_what_is_copied_from_the_repository_is_tracked_in_it(file: Path) -> None:
    git = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if git.returncode:
        pytest.skip("not a git checkout")
    tracked = {str(part) for path in git.stdout.splitlines() for part in (Path(path), *Path(path).parents)}
    for copy in re.findall(r"^COPY (?!--from)(.+)$", file.read_text(), re.MULTILINE):
        assert set(copy.split()[:-1]) <= tracked

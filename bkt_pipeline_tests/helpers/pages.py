"""Commands and statements on the project's pages."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# At the start of a line, after variables, a path, another program or a cron schedule; not in a line of output.
COMMAND = re.compile(
    r"(?:^(?:\S+=\S+ )*(?:\S*/)?|&& (?:\S*/)?| -- | exec code |\* \* \d  )bkt-pipeline ([a-z][^|;&]*)"
)


def fenced(page: Path, language: str) -> list[str]:
    """The blocks of a language."""
    return [block for name, block in BLOCK.findall(page.read_text()) if name == language]


def commands_of_ours(text: str) -> Iterator[list[str]]:
    """The arguments of each `bkt-pipeline` command in a text: those in blocks of code, and those between backticks.

    Text that names a command without its arguments is left out.
    """
    for _, block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for command in COMMAND.findall(line):
                yield shlex.split(command, comments=True)
    for span in re.findall(r"`bkt-pipeline ([^`]+)`", BLOCK.sub("", text)):
        if len(command := shlex.split(span)) > 1:
            yield command

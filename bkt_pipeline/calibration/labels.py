"""How a skill is shown to a person: its name if the platform has one, and text that cannot harm a terminal.

A name or an id is text that somebody typed on the platform. It never reaches a terminal, a message or a page unchanged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

LONGEST_LABEL = 60  # characters of a name; longer ones are shortened in the middle
LONGEST_ID = 36  # characters of an id beside a name; the length of a uuid


def printable(text: str) -> str:
    """The text with control characters escaped, so that it cannot move the cursor or colour the terminal.

    >>> printable("a\\x1b[31mred")
    'a\\\\x1b[31mred'
    """
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1]
        for character in text
    )


def shortened(name: str, longest: int) -> str:
    """The name, without its middle if it is long, because names often differ at the beginning or the end."""
    if len(name) <= longest:
        return name
    tail = longest // 3
    return f"{name[: longest - tail - 1]}…{name[-tail:]}"


def counted(number: int, what: str) -> str:
    """The number with its noun.

    >>> counted(1, "skill"), counted(1200, "skill")
    ('1 skill', '1,200 skills')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """The text on one line, with control characters escaped."""
    return printable(" ".join(text.split()))


def labels(keys: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """What each skill is called: its name, or its id if it has none; skills of the same name have their ids beside it.

    >>> labels(["s1", "s2", "s3"], {"s1": "Adding", "s2": "Adding"})
    {'s1': 'Adding (s1)', 's2': 'Adding (s2)', 's3': 's3'}
    """
    called = {key: one_line(names.get(key, "")) or one_line(key) for key in keys}
    times = Counter(called.values())
    return {
        key: shortened(name, LONGEST_LABEL)
        if times[name] == 1
        else f"{shortened(name, LONGEST_LABEL)} ({shortened(one_line(key), LONGEST_ID)})"
        for key, name in called.items()
    }


def in_markdown(text: str) -> str:
    """The text with everything escaped that Markdown or HTML would take for markup.

    >>> in_markdown("a](x)<b>")
    'a\\\\]\\\\(x\\\\)\\\\<b\\\\>'
    """
    return "".join(
        f"\\{character}"
        if character.isascii() and not character.isalnum() and character != " "
        else character
        for character in one_line(text)
    )

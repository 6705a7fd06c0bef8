"""The exception a user is meant to see, and the exit statuses of every command."""

import os
import re
from pathlib import Path

# The one table of them (docs/commands.md prints it). 1 is where a user has something to do, 75
# where trying again may be enough.
OK, ERROR, USAGE, BELOW, TEMPORARY, SIGNAL = 0, 1, 2, 3, 75, 128
STATUS = {
    str(OK): "done",
    str(ERROR): "`error: ...` on stderr says what is wrong and what to do",
    str(USAGE): "the command line is wrong: unknown verb or option, missing argument",
    str(BELOW): "`vtcc check`: the results are less clear than required",
    str(TEMPORARY): "something that may pass by itself, such as a network failure: try again",
    f"{SIGNAL} + n": "ended by signal n (130: Ctrl-C, 143: SIGTERM); the same command goes on",
}


class VtccError(Exception):
    """A user's mistake or a fact of the world, told in one clear line.

    The message says what was found, where, and what to do. The command line prints it
    as `error: ...` on stderr and exits with `status`, without a traceback.
    """

    status = ERROR


class TemporaryError(VtccError):
    """One that may pass by itself, such as a network failure; the flow tries again."""

    status = TEMPORARY


def in_one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, without line breaks and not too long; its type where it says nothing."""
    return shown(str(error), most) or type(error).__name__


def shown(text: str, most: int = 100) -> str:
    """Foreign text for a message: in one line, at most so long, with nothing a terminal obeys."""
    plain = printable(" ".join(text.split()))
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def printable(text: str) -> str:
    """The same with escapes for what a terminal obeys, nobody can see, or UTF-8 cannot hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_SECRET = re.compile(
    r"([?&;][^=&;#\s]*(?:pass|pwd|user|token|secret|key|credential|sig)[^=&;#\s]*=)[^&;#\s]*", re.I
)
# A colon before an @ makes a password of what is between, with any number of / and @ in it;
# `sqlite:////a@b/c.db` has neither user nor host, `http://a.b:80/c@d` a port.
_USER = re.compile(
    r"://(?:(?!(?:[\w-]+\.[\w.-]+|localhost):\d{1,5}/)[^/\s]\S*:\S*@|[^/\s@]*@(?:[^/\s]*@)?)"
)


def without_passwords(text: str) -> str:
    """Text with its addresses without user and password, fit for messages and files."""
    return _USER.sub("://", _SECRET.sub(r"\1***", text))


# Of names in words divided by _: what is hidden in messages may be more (`keyword=`).
_SECRET_NAME = re.compile(
    r"(?:pass(?:word|wd|code|phrase)|pwd|token|secret|credentials?|signature)(?![a-z])"
    r"|(?:\b|[\d_]|api|access|secret|private|account)"
    r"(?:key(?:_?id)?|pass|sig|user(?:_?(?:name|id))?)[^a-z]*$"
)


def holds_secret(address: str) -> bool:
    """Whether an address has a user, password or key in it, which no file is to keep."""
    names = re.findall(r"[?&;]([^=&;#\s]+)=[^&;#\s]", address)
    words = (re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in names)
    return bool(_USER.search(address)) or any(map(_SECRET_NAME.search, words))


def system_error(error: Exception, file: Path) -> OSError:
    """What a library tells in words alone ("... (os error 28)"), with its number.

    Args:
        error: of the library. file: that it was about.
    """
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None:
        return OSError(f"{file}: {error}")
    return OSError(int(number[1]), os.strerror(int(number[1])), str(file))

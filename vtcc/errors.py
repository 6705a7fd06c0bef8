"""The one exception a user is meant to see."""


class VtccError(Exception):
    """A user's mistake or a fact of the world, told in one clear line.

    The message says what was found, where, and what to do. The command line prints it
    as `error: ...` on stderr and exits with `status`, without a traceback.
    """

    status = 1


class TemporaryError(VtccError):
    """One that may pass by itself, such as a network failure; the flow tries again."""

    status = 75  # EX_TEMPFAIL of sysexits.h


def in_one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, without line breaks and not too long; its type where it says nothing."""
    words = " ".join(str(error).split())
    return (words if len(words) <= most else f"{words[: most - 3]}...") or type(error).__name__

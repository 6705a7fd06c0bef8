"""The one exception a user is meant to see."""


class VtccError(Exception):
    """A user's mistake or a fact of the world, told in one clear line.

    The message says what was found, where, and what to do. The command line prints it
    as `error: ...` on stderr and exits with 1, without a traceback.
    """

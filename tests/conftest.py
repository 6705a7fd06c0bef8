"""Tests run alike, however they are started."""

import signal

from vtcc import quiet

# Before any library is imported, as in `vtcc` and `flows`.
quiet.apply()


def pytest_configure() -> None:
    """Signals that a script's background or `nohup` ignores count again, here and in children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

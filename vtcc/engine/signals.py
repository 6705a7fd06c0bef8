"""Stopping a training politely: the first signal lets it finish its step and checkpoint."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Interrupted(Exception):  # noqa: N818 - an order carried out, not an error
    """The training was told to stop and has written its checkpoint."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class Stop:
    """Set by the first SIGINT, SIGTERM or SIGHUP; a second one acts at once.

    Attributes:
        signum: of the signal, 0 before.
        under_way: of the class: a training here is stopping; who would ask it to need not.
    """

    signum = 0
    under_way = False


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Lets the loop finish its step and checkpoint before it obeys a signal."""
    stop, Stop.under_way = Stop(), False
    previous: dict[int, Any] = {}

    def handle(signum: int, _frame: object) -> None:
        stop.signum, Stop.under_way = signum, True
        signal.signal(signum, previous[signum])

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if number == signal.SIGHUP and before is signal.SIG_IGN:
                continue  # `nohup`: to go on when the terminal closes is what was asked for
            previous[number] = before
            signal.signal(number, handle)
    except ValueError:  # not the main thread: signals go elsewhere
        previous.clear()
    try:
        yield stop
    finally:
        for key, handler in previous.items():
            signal.signal(key, handler)

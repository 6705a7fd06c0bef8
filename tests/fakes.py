"""Fakes of our own functions that keep the signature of what they stand in for; a fake server."""

import contextlib
import importlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import create_autospec

import pytest


def stand_in(
    patch: pytest.MonkeyPatch, owner: Any, name: str, does: Callable[..., Any] | None = None
) -> Any:
    """Replaces a function of `owner` (or a method of a class) for the length of a test.

    A call that the real one would refuse is refused, so that a fake cannot outlive a change of
    what it stands in for.

    Args:
        owner: a module, its dotted name, a class or an object.
        name: of the function.
        does: what it does instead, with the same arguments; None for nothing.

    Returns:
        The replacement, which has the assertions of `unittest.mock`.
    """
    if isinstance(owner, str):
        owner = importlib.import_module(owner)
    real = getattr(owner, name)
    real = getattr(real, "stands_in_for", real)
    fake = create_autospec(real, side_effect=does or (lambda *given, **named: None))
    fake.stands_in_for = real
    patch.setattr(owner, name, fake)
    return fake


@contextlib.contextmanager
def answering(line: bytes) -> Iterator[int]:
    """Something on a port of this machine that answers every connection with a line; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(1 << 16)
                        connection.sendall(line)

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


class _Without:
    """A finder that finds nothing of some packages, and the rest as another finder does."""

    def __init__(self, finder: Any, packages: tuple[str, ...]) -> None:
        self._finder, self._packages = finder, packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self._packages:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def uninstall(patch: pytest.MonkeyPatch, *packages: str) -> None:
    """Lets packages look as if they were not installed, imported ones too, for a test."""
    for name in list(sys.modules):
        if name.partition(".")[0] in packages:
            patch.delitem(sys.modules, name)
    patch.setattr(sys, "meta_path", [_Without(finder, packages) for finder in sys.meta_path])

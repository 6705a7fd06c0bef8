"""How many processors there are to use, and torch uses; imports nothing heavy."""

import contextlib
import os
from collections.abc import Iterator


def usable() -> int:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def kept_threads(number: int = 0) -> Iterator[None]:
    """Torch has as many threads after the block as before it: a number makes other last digits.

    What comes next is then the same in a run that goes on, which skips the block.

    Args:
        number: of threads inside; 0: as before, unless the block itself asks for others.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""What the C library does with memory that a step has freed."""

import ctypes
import os
import platform

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT, AHEAD, APART = 1 << 30, 64 << 20, 32 << 20


def keep_freed_memory(kept: int = KEPT, ahead: int = AHEAD) -> None:
    """Keeps up to `kept` bytes of freed memory for the next step, with glibc.

    Left alone it returns the intermediate results of a step to the kernel and gets them back page
    by page, zeroed: 1,000 page faults in a step of the digits, 7 % of its time. Tensors of more
    than 32 MiB still come and go. What a user sets in the environment stands.

    Args:
        kept: bytes. ahead: bytes that it asks the kernel for beyond what it needs.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, APART)
    libc.mallopt(M_TRIM_THRESHOLD, kept)
    libc.mallopt(M_TOP_PAD, ahead)

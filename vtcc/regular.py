"""Which files are read at all: no pipe, which is waited for without end, and no device."""

import errno
import stat
from pathlib import Path


def regular(file: Path) -> Path:
    """The same path, of a file that may be opened now. A directory's `open` refuses by itself.

    Raises:
        OSError: when a pipe, a device or a socket has this name, or nothing has.
    """
    mode = file.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.ENXIO, "a pipe or a device, not a file", str(file))
    return file

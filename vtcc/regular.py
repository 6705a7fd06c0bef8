"""Which files are read at all: no device, and no pipe that a writer would have to open first."""

import errno
import os
import stat
from pathlib import Path


def regular(file: Path) -> Path:
    """The same path, of a file that may be opened now. A directory's `open` refuses by itself.

    A pipe that this process has open already is one (bash's `<(...)`, /dev/stdin): its writer is
    there. It can be read once and not searched.

    Raises:
        OSError: when another pipe, a device or a socket has this name, or nothing has.
    """
    mode = file.stat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return file
    # A pipe that has a name elsewhere resolves to that.
    if stat.S_ISFIFO(mode) and Path(os.path.realpath(file)).parent == Path("/dev/fd").resolve():
        return file
    raise OSError(errno.ENXIO, "a pipe or a device, not a file", str(file))

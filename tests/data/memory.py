"""How much memory a piece of code takes at most, measured in a process of its own."""

import subprocess
import sys

_BEFORE = """
import resource, sys
def peak_mib():
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
"""
_AFTER = "\nprint(peak_mib() - baseline)"
# Linux hands a parent's peak on to its child. This parent is small, the tests' is not.
_SMALL_PARENT = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


def peak(code: str) -> tuple[list[str], int]:
    """What code prints, in lines, and the MiB by which its peak rises over its `baseline`.

    The code sets `baseline = peak_mib()` when it has imported what it needs.
    """
    whole = [sys.executable, "-c", _BEFORE + code + _AFTER]
    ran = subprocess.run(
        [sys.executable, "-c", _SMALL_PARENT, *whole],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *lines, mib = ran.stdout.splitlines()
    return lines, int(mib)

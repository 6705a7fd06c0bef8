"""Environment switches for libraries: no telemetry, no waiting for a network, a place to write.

The one place for them: `vtcc`, `flows` and the tests apply these before they import a library, and
what they start inherits them.
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

SWITCHES = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Files of an MLflow server come from that server: else it may send clients to its own store,
    # which they need not reach (MLflow then tries again for many minutes).
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GX_ANALYTICS_ENABLED": "false",
    # Threads that wait for each other sleep instead of spinning: on a busy machine spinning
    # takes the very processor that the other thread waits for.
    "OMP_WAIT_POLICY": "passive",
}

# Says to this program and to those it starts that HF_HUB_OFFLINE is not the user's own wish.
_OFFLINE_BY_DEFAULT = "VTCC_HUB_OFFLINE_BY_DEFAULT"


def hub_switched_off() -> bool:
    """Whether the user, and not vtcc, keeps huggingface_hub off the network."""
    value = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return value in ("1", "ON", "YES", "TRUE") and _OFFLINE_BY_DEFAULT not in os.environ


def apply() -> None:
    """Sets the switches that the user has not set. Call before importing any library."""
    if "HF_HUB_OFFLINE" not in os.environ:
        os.environ[_OFFLINE_BY_DEFAULT] = "1"
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    _keep_this_machine_from_proxies()
    _name_the_user()
    _find_a_place_for_caches()


_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def _keep_this_machine_from_proxies() -> None:
    """A proxy cannot reach the servers of this machine, and must not see what they are asked."""
    if not any(os.environ.get(n) or os.environ.get(n.upper()) for n in _PROXIES):
        return
    # Libraries ask for the small spelling first.
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in known.split(",") if host.strip()]
    if "*" not in hosts:
        hosts += [host for host in _THIS_MACHINE if host not in hosts]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


def _name_the_user() -> None:
    """A number without a name, as in containers, makes `getpass` and `Path.home` raise."""
    try:
        import pwd

        pwd.getpwuid(os.getuid())
    except ImportError:
        pass  # Windows, where a user has a name
    except KeyError:
        if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            os.environ["USER"] = str(os.getuid())
        if not os.environ.get("HOME"):
            with contextlib.suppress(OSError):
                os.environ["HOME"] = str(_private_directory())


def _find_a_place_for_caches() -> None:
    """numba, which UMAP is compiled by, raises where it can write neither at home nor beside it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    place = Path(os.path.expanduser(cache)).absolute()  # noqa: PTH111 - Path's own needs a home
    while not os.path.exists(place) and place != place.parent:  # noqa: PTH110 - `exists` raises
        place = place.parent
    wanted = [n for n in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR") if n not in os.environ]
    if not wanted or os.access(place, os.W_OK | os.X_OK):
        return
    try:
        room = _private_directory()
    except OSError:
        return
    for name in wanted:
        os.environ[name] = str(room / name.partition("_")[0].lower())


def _private_directory() -> Path:
    """A directory below the system's temporary one that nobody else can write to.

    Raises:
        OSError: when there is no such place.
    """
    room = Path(tempfile.gettempdir()) / f"vtcc-{os.getuid()}"
    try:
        room.mkdir(mode=0o700, exist_ok=True)
        status = room.lstat()
        if (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.getuid()
            and not status.st_mode & 0o077
        ):
            return room
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="vtcc-"))  # what is there is not ours

"""Finding a Prefect server, and doing without one. Imports no Prefect at the top."""

import contextlib
import os
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:4200/api"
LOG = "prefect-server.log"  # in .vtcc


def api_url(port: int) -> str:
    """`PREFECT_API_URL` where it is set, else this machine's server at `port`."""
    given = os.environ.get("PREFECT_API_URL", "").strip().rstrip("/")
    return given or f"http://127.0.0.1:{port}/api"


def configured_url(project: Path, *, environment: bool = True) -> str:
    """Address of the Prefect API that commands typed in `project` talk to.

    `PREFECT_API_URL` wins over the project's `pyproject.toml`, as it does in Prefect.

    Args:
        project: directory of `pyproject.toml`.
        environment: False leaves the variable out.
    """
    if environment and (url := os.environ.get("PREFECT_API_URL", "").strip()):
        return url.rstrip("/")
    try:
        settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return DEFAULT_URL
    api = settings.get("tool", {}).get("prefect", {}).get("api", {})
    return str(api.get("url", DEFAULT_URL)).rstrip("/")


def answers(url: str, timeout: float = 5.0) -> bool:
    """Whether a Prefect server is at a Prefect API address."""
    # The environment's proxies are not for this machine.
    local = any(f"//{host}" in url for host in ("127.0.0.1", "localhost", "[::1]"))
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        with opener.open(f"{url}/health", timeout=timeout) as answer:
            return bool(answer.read(100).strip() == b"true")
    except urllib.error.HTTPError as error:
        # A server that wants a login (PREFECT_API_AUTH_STRING, Prefect Cloud) is one too.
        return error.code in (401, 403)
    except (OSError, ValueError, HTTPException):
        return False


@contextlib.contextmanager
def or_ephemeral(project: Path) -> Iterator[str | None]:
    """Uses the configured server where one answers, else Prefect's short-lived own one.

    Yields:
        The server's address, or None for the short-lived one.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        temporary_settings,
    )

    url = configured_url(project)
    # An address in the environment is a wish: better to fail than to run somewhere else.
    if os.environ.get("PREFECT_API_URL", "").strip() or answers(url):
        with temporary_settings(updates={PREFECT_API_URL: url}):
            yield url
    else:
        with temporary_settings(
            updates={PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}, restore_defaults={PREFECT_API_URL}
        ):
            yield None

"""`vtcc api`: a model over HTTP, by MLflow's scoring server in this process.

POST /invocations answers images, GET /model says which version does, POST /reload takes up
the version that the name or alias means now, without an answer being lost. Who may ask for that:
whoever knows the token in VTCC_API_TOKEN, or without one this machine alone.
"""

import contextlib
import functools
import hmac
import ipaddress
import logging
import os
import re
import signal
import tempfile
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from vtcc import quiet
from vtcc.errors import VtccError, in_one_line
from vtcc.progress import note
from vtcc.tracking import fetch, limits, packaging, routes, store, ui

if TYPE_CHECKING:
    from fastapi import Request


TOKEN = "VTCC_API_TOKEN"
_PATIENCE = 300.0  # seconds that `vtcc api --reload` waits for a model to be loaded


@dataclass(frozen=True)
class Settings:
    """What a request may hold and what answering it may use.

    Attributes:
        max_bytes: of a request's body. max_images: in a request.
        max_pixels: of an image; that of the model wins where it is lower.
        threads: of a forward pass.
        docs: serve FastAPI's pages of the routes, /docs.
        token: that POST /reload asks for; without one it answers this machine alone.
    """

    max_bytes: int = 64 << 20
    max_images: int = 4096
    max_pixels: int = 50_000_000
    threads: int = 1
    docs: bool = False
    token: str = field(default_factory=lambda: os.environ.get(TOKEN, ""), repr=False)


class Served:
    """The model that answers now, as MLflow's scoring server asks it. Thread-safe.

    Attributes:
        version: what `GET /model` says of it.
    """

    def __init__(self, uri: str, settings: Settings) -> None:
        """Loads the model.

        Raises:
            VtccError: when there is no such model.
        """
        self.uri, self._settings = uri, settings
        # As many images at once as there are processors for: more would wait for each other.
        self._places = threading.Semaphore(max((os.cpu_count() or 1) // settings.threads, 1))
        self._loading = threading.Lock()
        self._model, self.version = self._load()
        self.metadata = self._model.metadata

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """What the model says of a DataFrame; called by MLflow, in several threads."""
        from mlflow.exceptions import MlflowException

        try:
            limits.batch_size(params)  # MLflow leaves out what the model does not know
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        most = self._settings.max_images
        if len(data) > most:
            raise MlflowException.invalid_parameter_value(
                f"{len(data)} images in a request; allowed: {most}"
            )
        model = self._model
        with self._places:
            return model.predict(data, params=params)

    def reload(self) -> dict[str, str]:
        """Loads what the URI means now; answers go on from the former until it is there.

        Raises:
            VtccError: when it cannot be loaded; the former stays.
        """
        with self._loading:
            self._model, self.version = self._load()
        return self.version

    def _load(self) -> tuple[Any, dict[str, str]]:
        """The version that the URI means now: its weights, this installation's code.

        `mlflow.pyfunc.load_model` would run the code that the version brings.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model
        from mlflow.pyfunc import FLAVOR_NAME, PyFuncModel

        from vtcc.tracking.serving import ClusterImages

        registered = fetch.is_address(self.uri)
        version = fetch.version(self.uri) if registered else {}
        model = ClusterImages()
        try:
            with tempfile.TemporaryDirectory() as room:
                if registered:
                    directory = fetch.download(version["uri"], Path(room))
                else:
                    directory = fetch.directory_of(self.uri, Path(room))
                    version = _local_version(directory)
                model.load_context(SimpleNamespace(artifacts={"model": directory}))
                model.predictor.prepare()  # no request waits for that
        except (MlflowException, OSError, ImportError) as error:
            raise VtccError(f"{self.uri}: could not be loaded ({store.reason(error)})") from error
        decoding = model.predictor.decoding
        decoding["max_pixels"] = min(decoding["max_pixels"], self._settings.max_pixels)
        # MLflow's own checks of a request against the signature.
        described = Model(signature=packaging.signature())
        described.add_flavor(FLAVOR_NAME, loader_module="mlflow.pyfunc.model")
        answering = SimpleNamespace(predict=functools.partial(model.predict, None))
        return PyFuncModel(described, answering), version


def _local_version(directory: Path) -> dict[str, str]:
    """What `fetch.version` says of a registered model, of a model directory.

    Its name is that of the results it lies in, its version the digest that edits.json names.
    """
    from vtcc.digests import sha256
    from vtcc.engine.checkpoint import WEIGHTS
    from vtcc.grouping import clusters, result

    results = directory.parent if directory.name == result.MODEL else directory
    if (directory / clusters.FILE).is_file():
        version = result.digest(directory)
    else:  # of the pipeline
        version = sha256(directory / WEIGHTS)[:16]
    return {"name": results.name, "version": version, "uri": "", "run_id": ""}


def application(served: Served, host: str, settings: Settings) -> Any:
    """The ASGI app: MLflow's scoring server, our two routes and the limits around both."""
    import asyncio

    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from mlflow.pyfunc import scoring_server
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # It warns at every mistake of a client's, who is told anyway.
    logging.getLogger(scoring_server.__name__).setLevel(logging.ERROR)
    app = scoring_server.init(cast(Any, served))

    @app.get("/model")
    async def model() -> dict[str, str]:
        return served.version

    async def reload(request: Request) -> Any:
        if why := refused(request, settings.token):
            return JSONResponse({"message": why}, status_code=403)
        try:
            return await asyncio.to_thread(served.reload)
        except VtccError as error:
            return JSONResponse({"message": str(error)}, status_code=500)

    # Around MLflow's app, which gives up on every answer after a minute. In that app it is for the
    # pages of the routes alone.
    around = FastAPI(openapi_url=None)
    for each in (app, around):
        each.post("/reload", response_model=dict[str, str])(reload)
    around.mount("/", app)
    routes.describe(app)
    if _local(host):
        # A page in a browser could else reach this server by a name of its own.
        names = {host, "127.0.0.1", "localhost", "::1", "[::1]"}
        around.add_middleware(TrustedHostMiddleware, allowed_hosts=sorted(names))
    hidden = () if settings.docs else limits.PAGES
    return limits.Limits(around, settings.max_bytes, settings.max_images, hidden=hidden)


def refused(request: "Request", token: str) -> str:
    """Why a request may not change what is served; empty where it may.

    A page in a browser of this machine can send a form or plain text here: it cannot send JSON
    without being asked first, nor the token.
    """
    if token:
        given = request.headers.get("authorization", "")
        right = hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
        return "" if right else f"send the header `Authorization: Bearer` with {TOKEN}"
    # The name too: a page could come from a name of its own that means this machine.
    name = re.sub(r":\d*$", "", request.headers.get("host", ""))
    if request.client is None or not (_local(request.client.host) and _local(name)):
        return f"from this machine only; for others set {TOKEN} and start the server again"
    kind = request.headers.get("content-type", "").partition(";")[0]
    return "" if kind == "application/json" else "send application/json"


def _local(host: str) -> bool:
    """Whether a name or address means this machine, by itself and not by a name server."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def serve(uri: str, host: str, port: int, settings: Settings) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
        uri: such as `models:/vtcc-digits@champion`, or a model directory.
        host: to listen on. port: on that host.
        settings: limits and threads.

    Raises:
        VtccError: when the port is taken or there is no such model.
    """
    ui.check_port(port, "vtcc api", "make api API_PORT", host)
    quiet.apply()
    import torch
    import uvicorn

    from vtcc.tracking import connection

    torch.set_num_threads(settings.threads)
    served = Served(uri, settings)
    # uvicorn ends by these and raises them again, for whoever was there before it.
    for sign in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(sign, signal.default_int_handler)

    class Announced(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                note(
                    f"serving {served.version['name']} version {served.version['version']} at "
                    f"http://{ui.address(host, port)}/invocations (Ctrl-C stops it)"
                )

    config = connection.configured(application(served, host, settings), host=host, port=port)
    try:
        Announced(config).run()
    except KeyboardInterrupt:
        note("stopped")


def reload(host: str, port: int) -> None:
    """Asks a running server to take up the present champion, and says which that is.

    Raises:
        VtccError: when no server answers, or it could not load the model.
    """
    import json

    # A server of all addresses answers to those of this machine.
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://{ui.address(here, port)}/reload"
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(TOKEN):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, b"{}", headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    loading = "it may still be loading; GET /model says which version answers"
    try:
        with opener.open(request, timeout=_PATIENCE) as answer:
            version = json.load(answer)
        text = f"serving {version['name']} version {version['version']}"
    except TimeoutError:
        raise VtccError(f"{url}: no answer in {_PATIENCE:g} s: {loading}") from None
    except urllib.error.HTTPError as error:
        if error.code == 504:  # of a proxy that waits for less
            raise VtccError(f"{url}: HTTP status 504: {loading}") from None
        told = error.read().decode("utf-8", "replace")
        raise VtccError(f"{url}: {told[:300]}; the former version goes on") from None
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        why = in_one_line(error)
        raise VtccError(f"{url}: no `vtcc api` answers ({why}); start it: vtcc api") from None
    note(text)

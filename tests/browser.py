"""Headless Chromium for tests that look at pages, over its DevTools protocol."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Browser:
    """One Chromium with one tab. Use as a context manager; `folder` gets profile and pictures."""

    def __init__(self, folder: Path, width: int = 1500, height: int = 1300):
        program = next((p for p in ("chromium", "chromium-browser") if shutil.which(p)), None)
        if program is None:
            pytest.fail("chromium is missing: install Debian's package `chromium`")
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        size = f"--window-size={width},{height}"
        profile = f"--user-data-dir={folder / 'profile'}"
        self.process = subprocess.Popen(
            [program, *SWITCHES, size, profile, "about:blank"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._numbers = itertools.count(1)

    def __enter__(self) -> "Browser":
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"DevTools listening on (ws://\S+)", line):
                break
        self._socket = connect(found[1], max_size=None)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder / "profile", ignore_errors=True)

    def _call(self, method: str, **params: object) -> dict:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if method.partition(".")[0] != "Target":
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script: str) -> object:
        """The value of a script in the page."""
        return self._call("Runtime.evaluate", expression=script)["result"].get("value")

    def press(self, key: str) -> None:
        """Presses and releases a key as a person does; unlike events of a script it has effects."""
        named = {"Enter": (13, "\r"), "ArrowRight": (39, ""), "ArrowDown": (40, "")}
        code, text = named[key]
        given = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        kind = "keyDown" if text else "rawKeyDown"
        self._call("Input.dispatchKeyEvent", type=kind, **given)
        self._call("Input.dispatchKeyEvent", type="keyUp", **given | {"text": ""})

    def look(
        self, url: str, name: str, shown: tuple[str, ...], seconds: float = 90, press: str = ""
    ) -> str:
        """Opens a page and waits until it shows every text; leaves `<name>.png`.

        Args:
            press: the text of a tab or button to click as soon as it is there.

        Returns:
            The page's HTML.
        """
        # A fresh document each time: another #fragment alone would not load anything.
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)
        until, html = time.monotonic() + seconds, ""
        while time.monotonic() < until:
            if press:
                self.evaluate(
                    "[...document.querySelectorAll('*')].filter(e => !e.children.length && "
                    f"e.textContent.trim() === {json.dumps(press)}).at(-1)?.click()"
                )
            html = str(self.evaluate("document.documentElement.outerHTML"))
            if all(text in html for text in shown):
                break
            time.sleep(0.5)
        picture = self._call("Page.captureScreenshot")["data"]
        (self.folder / f"{name}.png").write_bytes(base64.b64decode(picture))
        missing = [text for text in shown if text not in html]
        assert not missing, f"{url} never showed {missing}; see {self.folder / name}.png"
        return html

"""How fast the page of `vtcc cluster` opens in headless Chromium: the measures of Lighthouse.

    python -m benchmarks.page --images 20000

Makes a page of so many images and opens it on a desktop and as Lighthouse's phone does, with a
processor four times slower. Prints medians over --rounds: first and largest contentful paint,
total blocking time (what tasks on the main thread take beyond 50 ms each), layout shift, elements,
memory of scripts, and bytes of the page and of the pictures that it loaded by itself.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.browser import Browser
from tests.pages.test_clusters import page
from vtcc.pages import thumbnails
from vtcc.pages.clusters import write

SIDE = 64
DEVICES = {
    "desktop": {"width": 1400, "height": 1000, "slower": 1, "mobile": False},
    "phone": {"width": 390, "height": 844, "slower": 4, "mobile": True},
}
WATCH = """
window.seen = {lcp: 0, blocked: 0, shift: 0, errors: []};
addEventListener('error', e => seen.errors.push(e.message));
const watch = (type, take) => new PerformanceObserver(list => list.getEntries().forEach(take))
  .observe({type, buffered: true});
watch('largest-contentful-paint', e => { seen.lcp = e.startTime; });
watch('longtask', e => { seen.blocked += e.duration - 50; });
watch('layout-shift', e => { if (!e.hadRecentInput) seen.shift += e.value; });
"""
READ = """JSON.stringify({
  fcp: performance.getEntriesByName('first-contentful-paint')[0].startTime,
  lcp: seen.lcp, blocked: seen.blocked, shift: seen.shift, errors: seen.errors,
  elements: document.querySelectorAll('*').length,
  memory: performance.memory.usedJSHeapSize / 2 ** 20,
  pictures: [...new Set(performance.getEntriesByType('resource').map(r => r.name))],
})"""
UNITS = {
    "first contentful paint, ms": "fcp",
    "largest contentful paint, ms": "lcp",
    "total blocking time, ms": "blocked",
    "cumulative layout shift": "shift",
    "elements": "elements",
    "memory of scripts, MiB": "memory",
    "bytes loaded, MiB": "bytes",
}


def made(directory: Path, images: int) -> Path:
    """A page of so many images in 25 clusters, with smooth pictures of random colours."""
    given = page(images, 25, thumb=SIDE)
    small = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    pictures = small.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    thumbnails.write_sprites(
        directory / "report", lambda rows: pictures[rows % len(pictures)], given.place
    )
    write(directory, given)
    return directory / "report.html"


def opened(file: Path, device: str, shots: Path) -> dict[str, float]:
    """What opening the page took, by name in UNITS.

    Raises:
        SystemExit: when a script of the page failed.
    """
    how = DEVICES[device]
    with Browser(shots, how["width"], how["height"]) as browser:
        browser._call("Page.enable")
        browser._call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        browser._call(
            "Emulation.setDeviceMetricsOverride",
            width=how["width"],
            height=how["height"],
            deviceScaleFactor=1,
            mobile=how["mobile"],
        )
        browser._call("Emulation.setCPUThrottlingRate", rate=how["slower"])
        browser.look(f"file://{file}", device, ("Least certain images, figures",))
        time.sleep(3)  # until nothing more is loaded
        values = json.loads(str(browser.evaluate(READ)))
    if values["errors"]:
        raise SystemExit(f"{device}: {values['errors']}")
    names = {Path(address.partition("?")[0]).name for address in values["pictures"]}
    loaded = [file, *(p for p in (file.parent / "report").iterdir() if p.name in names)]
    values["bytes"] = sum(path.stat().st_size for path in loaded) / 2**20
    return {title: float(values[key]) for title, key in UNITS.items()}


def main(arguments: list[str] | None = None) -> None:
    """Makes the page, opens it, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vtcc-bench-") as directory:
        file = made(Path(directory), options.images)
        runs: dict[str, list[dict[str, float]]] = {device: [] for device in DEVICES}
        for _ in range(options.rounds):
            for device, done in runs.items():
                done.append(opened(file, device, Path(directory) / "shots"))
    print(f"| {options.images:,} images | " + " | ".join(DEVICES) + " |\n|---|---|---|")
    for title in UNITS:
        medians = [statistics.median(run[title] for run in done) for done in runs.values()]
        digits = 2 if "shift" in title or "MiB" in title else 0
        print(f"| {title} | " + " | ".join(f"{m:,.{digits}f}" for m in medians) + " |")


if __name__ == "__main__":
    main()

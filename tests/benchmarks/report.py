"""Size of the report and time until a browser has opened it, at any number of images; see
results/benchmarks/report.md.

PYTHONPATH=tests python tests/benchmarks/report.py --images 500
PYTHONPATH=tests python tests/benchmarks/report.py --page results/demo/report.html --shots FOLDER
"""

import argparse
import base64
import io
import statistics
import tempfile
import time
from pathlib import Path

from browser import Browser, chromium
from PIL import Image
from test_report_browser import Counted

SECTIONS = ("categories", "tau", "quality", "classes", "failures")
WIDTHS = {"wide": 1400, "phone": 390}
TOP = {"wide": 2150, "phone": 1500}
"""Pixels of the page's top that are pictured: verdict, overlays, files and next commands."""


def main() -> None:
    """Make a page or take one; print what it weighs and how long it takes; picture its sections if asked
    to.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500, help="of a made-up run (default: 500)")
    parser.add_argument("--page", type=Path, help="a page that is there, instead")
    parser.add_argument("--shots", type=Path, help="folder for screenshots of its sections")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile") as browser:
        page = args.page or made_up(Path(folder), args.images)
        text = page.read_text()
        print(f"{page}: {len(text.encode()) / 1e6:.2f} MB, {text.count('<img')} pictures")
        browser.call("Performance.enable", timeDomain="threadTicks")
        seconds = [browser.open(page) for _ in range(5)]
        metrics = {item["name"]: item["value"] for item in browser.call("Performance.getMetrics")["metrics"]}
        print(f"processor time of the page's thread, of the last: {metrics['TaskDuration']:.2f} s")
        print(
            f"opened in {statistics.median(seconds):.2f} s (median of 5: "
            f"{[round(value, 2) for value in seconds]})"
        )
        if args.shots:
            picture(browser, page, args.shots)


def made_up(folder: Path, images: int) -> Path:
    """The page of a made-up run with counts, scores, and twelve images pictured."""
    run = Counted(folder / "run", images, report={})
    run.count()
    begun = time.monotonic()
    run.build()
    print(f"{images} images, made in {time.monotonic() - begun:.1f} s")
    return folder / "run" / "report.html"


def picture(browser: Browser, page: Path, folder: Path) -> None:
    """The upper part of each section as a small JPEG, wide and as on a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, width in WIDTHS.items():
        browser.resize(width, 800, mobile=name == "phone")
        browser.open(page)
        boxes = {"top": (0, TOP[name])}
        for section in SECTIONS:
            box = f"document.getElementById('{section}').getBoundingClientRect()"
            height = min(browser.value(f"{box}.height"), 1.5 * width + 500)
            boxes[section] = (browser.value(f"{box}.top + scrollY"), height)
        for section, (top, height) in boxes.items():
            clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
            shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
            with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
                small = image.convert("RGB")
                small.thumbnail((760, 4000))
                small.save(folder / f"{section}-{name}.jpg", quality=62, optimize=True)


if __name__ == "__main__":
    main()

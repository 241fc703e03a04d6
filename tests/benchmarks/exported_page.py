"""The exported page in Chromium, on photographs, against the exported script.

    PYTHONPATH=.:tests python tests/benchmarks/exported_page.py EXPORTED PHOTOS WORK

EXPORTED is what ``maskdistill export --web`` wrote, PHOTOS a folder with at least 20 JPEGs. WORK gets the
photographs, as :mod:`exported_script` draws them, and Chromium's profile.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from browser import chromium
from exported_script import COUNT, KINDS, draw
from web_page import choose, open_page, seen_on_page

from maskdistill.product.export_agreement import Seen, compare
from maskdistill.product.kinds.onnx import look_by_script


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    for name in ("exported", "photos", "work"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    (args.work / "photos").mkdir(parents=True)
    sources = sorted(args.photos.rglob("*.jpg"))
    kinds = [KINDS[number % len(KINDS)] for number in range(COUNT)]
    files = [
        draw(sources[number * len(sources) // COUNT], kind, args.work / "photos" / f"{number:02d}")
        for number, kind in enumerate(kinds)
    ]
    found: list[Seen] = []
    seconds = []
    with chromium(args.work / "profile") as browser:
        begun = time.monotonic()
        open_page(browser, args.exported / "web/index.html")
        print(f"models ready after {time.monotonic() - begun:.1f} s")
        for file in files:
            print(choose(browser, file))
            seen, both = seen_on_page(browser)
            found.append(seen)
            seconds.append(both)
    print("median seconds of label map and objects:", np.median(seconds, axis=0).round(2).tolist())
    expected = look_by_script(args.exported, files)
    for kind in (*KINDS, "all"):
        pairs = [
            (one, other)
            for one, other, of in zip(expected, found, kinds, strict=True)
            if one is not None and kind in (of, "all")
        ]
        agreement = compare([one for one, _ in pairs], [other for _, other in pairs])
        print(f"{kind}: {agreement.sentence()}")


if __name__ == "__main__":
    main()

"""The page of ``export --web`` in a browser: what it sees in pictures."""

import base64
import io
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from browser import PROGRAM, Browser, wait_for
from PIL import Image

from maskdistill.formats import rle
from maskdistill.product.export_agreement import Seen
from maskdistill.product.web.runtime import FILES, VERSION, runtime_folder
from maskdistill.runtime.files import give_name

RESULT = """(async () => {
  const text = (data) => {
    let found = "";
    for (let at = 0; at < data.length; at += 30000) {
      found += String.fromCharCode(...data.subarray(at, at + 30000));
    }
    return btoa(found);
  };
  const objects = result.objects.map((one) => ({...one, mask: {...one.mask, bits: text(one.mask.bits)}}));
  const {width, height} = result;
  return {objects, width, height, labels: text(result.labels), seconds: result.seconds};
})()"""


def missing_tools() -> str:
    """Why the page cannot be tried here; empty where it can.

    ONNX Runtime Web is fetched into the cache by npm, once.
    """
    if PROGRAM is None:
        return "no Chromium: apt-get install chromium"
    folder = runtime_folder()
    if all((folder / name).is_file() for name in FILES):
        return ""
    if shutil.which("npm") is None:
        return "onnxruntime-web is not in the cache, and there is no npm"
    with TemporaryDirectory() as temporary:
        command = ["npm", "pack", "--silent", f"onnxruntime-web@{VERSION}"]
        if subprocess.run(command, cwd=temporary, capture_output=True).returncode:
            return "onnxruntime-web is not in the cache, and npm cannot fetch it"
        (archive,) = Path(temporary).glob("*.tgz")
        shutil.unpack_archive(archive, temporary, filter="data")
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            give_name(Path(temporary, "package/dist", name), folder / name)
    return ""


def open_page(browser: Browser, page: Path) -> None:
    """Load the page and wait for its models."""
    browser.open(page)
    wait_for(lambda: status(browser) != "Starting …")
    assert status(browser) == "Ready."


def status(browser: Browser) -> str:
    """What the page says."""
    return str(browser.value("document.getElementById('status').textContent"))


def choose(browser: Browser, picture: Path) -> str:
    """Choose a picture as by the file button; what the page says when it is done."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(picture.resolve())], nodeId=node)
    browser.value("new Promise((go) => setTimeout(go, 0)).then(() => work)")
    return status(browser)


def seen_on_page(browser: Browser) -> tuple[Seen, list[float]]:
    """What the page found in the picture that it shows, and the seconds of both models."""
    found: dict[str, Any] = browser.value(RESULT)
    shape = (found["height"], found["width"])
    objects: list[Any] = []
    for one in found["objects"]:
        mask = np.zeros(shape, bool)
        place = one["mask"]
        bits = _bytes(place["bits"]).reshape(place["height"], place["width"])
        mask[place["y"] :, place["x"] :][: place["height"], : place["width"]] = bits
        box = [place["x"], place["y"], place["width"], place["height"]]
        objects.append(
            {
                "category_id": one["category"],
                "score": one["score"],
                "bbox": box,
                "segmentation": rle.encode(mask),
            }
        )
    return Seen(_bytes(found["labels"]).reshape(shape), objects), found["seconds"]


def downloaded(browser: Browser) -> Image.Image:
    """The label map that the page offers as a file."""
    code = "result.png.bytes().then((data) => btoa(String.fromCharCode(...data)))"
    return Image.open(io.BytesIO(base64.b64decode(browser.value(code))))


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), np.uint8)

"""The page of all objects: which are shown, their thumbnails, and the page in a browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from browser import PROGRAM, Browser, chromium
from PIL import Image, ImageDraw
from synthetic_run import HOSTILE, K, Synthetic

from maskdistill.cli import main
from maskdistill.cli import thumbnails as stage
from maskdistill.data.images import load_rgb
from maskdistill.formats import rle
from maskdistill.report import gallery
from maskdistill.report.html import render
from maskdistill.report.montage import category_colors, object_tile
from maskdistill.report.thumbnails import (
    ACROSS,
    STEPS,
    ThumbnailsRecord,
    choose,
    outline_path,
    places,
    sheet,
)
from maskdistill.runtime.files import read_json, write_json

COLOR = (250, 10, 20)
NAMED = "</script><img src=x onerror=alert(1)> 'ü'"


def test_a_thumbnail_is_the_object_in_colour_with_its_outline() -> None:
    """Pixel by pixel where nothing is scaled: 25 pixels and a border of 12 % on both sides are 31."""
    rng = np.random.default_rng(3)
    photo = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[2:27, 30:44] = rng.random((25, 14)) < 0.9
    mask[[2, 26], 30] = mask[9, 43] = True
    top, left = (2 + 27 - 31) // 2, (30 + 44 - 31) // 2

    def inside(row: int, column: int) -> bool:
        return bool(0 <= row < 40 and 0 <= column < 50 and mask[row, column])

    def edge(row: int, column: int) -> bool:
        near = [(row, column + 1), (row + 1, column), (row + 1, column + 1)]
        within = [(r, c) for r, c in near if r < top + 31 and c < left + 31]
        return top <= row and left <= column and any(inside(r, c) != inside(row, column) for r, c in within)

    expected = np.zeros((31, 31, 3), np.uint8)
    for row in range(top, top + 31):
        for column in range(left, left + 31):
            there = 0 <= row < 40 and 0 <= column < 50
            color = photo[row, column].astype(float) if there else np.full(3, 128.0)
            if not inside(row, column):
                color = np.full(3, 0.38 * float(color @ np.array([0.299, 0.587, 0.114])) + 0.62 * 128)
            if any(edge(row - up, column - back) for up in (0, 1) for back in (0, 1)):
                color = np.array(COLOR, float)
            expected[row - top, column - left] = np.round(color)
    found = object_tile(photo, mask, COLOR, 31)
    assert found.shape == (31, 31, 3) and np.abs(found.astype(int) - expected).max() <= 1


def test_thumbnails_lie_row_by_row_on_their_sheet() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (ACROSS + 3, 8, 8, 3)).astype(np.uint8)
    found = sheet(tiles)
    assert found.shape == (16, 8 * ACROSS, 3)
    for number in range(2 * ACROSS):
        row, column = number // ACROSS, number % ACROSS
        tile = tiles[number] if number < len(tiles) else np.zeros((8, 8, 3))
        assert (found[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] == tile).all()
    assert sheet(tiles[:1]).shape == (8, 8 * ACROSS, 3)


def test_of_too_many_objects_the_surest_and_an_even_sample_are_shown() -> None:
    scores = np.random.default_rng(1).random(1000).round(2)
    assert choose(scores, 1000).all() and choose(np.zeros(0), 5).shape == (0,)
    shown = choose(scores, 50)
    surest = sorted(range(1000), key=lambda place: (-scores[place], place))[:40]
    others = [place for place in range(1000) if place not in surest]
    sampled = [others[round(step * 959 / 9)] for step in range(10)]
    assert np.flatnonzero(shown).tolist() == sorted(surest + sampled)
    assert np.flatnonzero(choose(scores, 1)).tolist() == surest[:1], "a fifth of one is none"


def test_categories_lie_together_the_surest_first() -> None:
    categories, scores = np.array([2, 1, 2, 1, 2]), np.array([0.5, 0.9, 0.7, 0.9, 0.5])
    assert places(categories, scores).tolist() == [3, 0, 2, 1, 4]


@pytest.mark.parametrize("radius", [0.4, 4, 60])
def test_an_outline_encloses_its_mask(radius: float) -> None:
    """Filled by another program, and within what a grid of 512 steps and the tolerance allow."""
    mask = np.zeros((300, 400), bool)
    mask[100 : 100 + 150, 50:200] = np.hypot(*np.mgrid[-75:75, -75:75]) <= radius
    mask[101 + 74, 50 + 77 : 50 + 79] &= radius > 60
    x, y, width, height = (int(value) for value in rle.bbox(rle.encode(mask)))
    path = outline_path(rle.encode(mask), (x, y, width, height))
    assert re.fullmatch(r"(M-?\d+ -?\d+l(-?\d+[ -]?-?\d+[ -]?)+z)+", path)
    scale = 10 * max(width, height) / STEPS
    drawn = Image.new("1", (10 * width, 10 * height))
    for ring in path.rstrip("z").split("z"):
        steps = np.array([int(value) for value in re.findall(r"-?\d+", ring)]).reshape(-1, 2).cumsum(axis=0)
        ImageDraw.Draw(drawn).polygon([tuple(point) for point in (steps * scale).tolist()], fill=1)
    wanted = np.kron(mask[y : y + height, x : x + width], np.ones((10, 10), bool))
    found = np.array(drawn)
    assert (found & wanted).sum() / (found | wanted).sum() > (
        0.3 if radius < 1 else 0.8 if radius < 10 else 0.97
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Six photographs with a disc (0.95), a square (0.75) and a single pixel (0.2) each."""
    return Synthetic(tmp_path_factory.mktemp("gallery"))


def made(run: Synthetic, folder: Path, threads: int = 1, **report: int) -> ThumbnailsRecord:
    params = {"pseudo_labels": {"tau": 0.75, "compare": "ge"}, "report": report}
    candidates = [str(path) for path in sorted((run.seed / "candidates").iterdir())]
    command = [
        "thumbnails",
        f"--manifest={run.root}/manifest.csv",
        f"--num-clusters={K}",
        f"--threads={threads}",
    ]
    assert (
        main([*command, f"--params={json.dumps(params)}", f"--output={folder}", "--candidates", *candidates])
        == 0
    )
    record: ThumbnailsRecord = read_json(folder / "objects.json")
    return record


def page_of(run: Synthetic, folder: Path, *options: str) -> Path:
    page = folder.parent / "objects.html"
    clusters = run.seed / "clusters.json"
    command = [
        "gallery",
        "--run-name=tiny",
        f"--thumbnails={folder}",
        f"--clusters={clusters}",
        f"--output={page}",
    ]
    assert main([*command, *options]) == 0
    return page


def test_all_objects_of_a_run_are_drawn(run: Synthetic, tmp_path: Path) -> None:
    record = made(run, tmp_path / "objects_page")
    assert {path.name for path in (tmp_path / "objects_page").iterdir()} == {"objects.json", "sheet-0001.jpg"}
    objects, pictures = record["objects"], record["pictures"]
    assert objects["category"] == [1] * 6 + [2] * 6 and objects["score"] == [0.95] * 6 + [0.75] * 6
    assert objects["picture"] == [*range(6)] * 2
    assert pictures["name"] == [f"{run.keys[number]}.png" for number in run.scenes]
    assert pictures["size"] == [64, 48] * 6
    assert (record["found"], record["sampled"], record["looked_at"], record["empty"]) == (12, 0, 6, 0)
    assert record["provenance"]["params"] == {
        "objects": 20000, "object_side": 96, "min_score": 0.75, "compare": "ge", "min_area": 0,
        "most_iou": None,
    }  # fmt: skip
    found = np.asarray(Image.open(tmp_path / "objects_page/sheet-0001.jpg"))
    for place in (0, 7):
        photo, labels = run.scenes[1 + objects["picture"][place]]
        mask = labels == {1: 2, 2: 1}[objects["category"][place]]
        assert objects["area"][place] == mask.sum()
        assert objects["box"][4 * place : 4 * place + 4] == rle.bbox(rle.encode(mask))
        alone = tmp_path / "alone.jpg"
        tile = object_tile(photo, mask, category_colors(K)[objects["category"][place] - 1], 96)
        Image.fromarray(tile).save(alone, quality=stage.QUALITY, subsampling=0)
        row, column = divmod(place, ACROSS)
        here = found[96 * row : 96 * row + 96, 96 * column : 96 * column + 96]
        assert (here == np.asarray(Image.open(alone))).all(), "no other thumbnail bleeds into it"


def test_equal_runs_give_equal_bytes(run: Synthetic, tmp_path: Path) -> None:
    found = []
    for name, threads in (("one", 1), ("two", 3)):
        made(run, tmp_path / name / "objects_page", threads, object_side=64)
        page_of(run, tmp_path / name / "objects_page")
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert found[0] == found[1] and len(found[0]) == 3


def test_pictures_are_read_once_in_order_and_only_for_what_is_shown(
    run: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def load(path: str) -> Image.Image:
        opened.append(Path(path).stem)
        return load_rgb(path)

    monkeypatch.setattr(stage, "load_rgb", load)
    record = made(run, tmp_path / "all")
    assert opened == [Path(run.keys[number]).name for number in run.scenes]
    opened.clear()
    record = made(run, tmp_path / "few", objects=5)
    assert (record["found"], record["sampled"], len(record["objects"]["score"])) == (12, 1, 5)
    assert record["objects"]["score"] == [0.95] * 4 + [0.75], "the first of the others at even steps"
    assert opened == [Path(run.keys[number]).name for number in (1, 2, 3, 4)]
    said = gallery.cut(record)
    assert "the 4 most confident ones" in said and "1 more" in said and "report.objects" in said


def test_a_run_without_objects_has_a_page(run: Synthetic, tmp_path: Path) -> None:
    for number in (0, 1):
        write_json(tmp_path / f"none/shard-{number:04d}.json", {"candidates": []})
    command = ["thumbnails", f"--manifest={run.root}/manifest.csv", f"--num-clusters={K}", "--threads=1"]
    empty = [str(tmp_path / f"none/shard-000{number}.json") for number in (0, 1)]
    assert main([*command, f"--output={tmp_path}/objects_page", "--candidates", *empty]) == 0
    assert [path.name for path in (tmp_path / "objects_page").iterdir()] == ["objects.json"]
    assert "0 objects in 6 photographs; 6 have none" in page_of(run, tmp_path / "objects_page").read_text()


@pytest.mark.hostile("hdf5: candidates of a shard that are not given", outcome="refused, the shard is named")
def test_a_missing_shard_is_named(run: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run.seed / "candidates/shard-0000.json"
    command = [
        "thumbnails",
        f"--manifest={run.root}/manifest.csv",
        f"--num-clusters={K}",
        f"--output={tmp_path}/x",
    ]
    assert main([*command, "--candidates", str(first)]) == 1
    assert "shard 1 is missing; give the candidates of every shard" in capsys.readouterr().err


def test_names_are_texts(run: Synthetic, tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text(f"names: {{0: {json.dumps(NAMED)}}}\nsizes: [0, 4, 1]\n")
    made(run, tmp_path / "objects_page")
    text = page_of(run, tmp_path / "objects_page", f"--names={names}").read_text()
    assert NAMED not in text and text.count("</script>") == 2 and HOSTILE not in text
    data = json.loads(text.partition('id="objects-data">')[2].partition("</script>")[0])
    assert [category["name"] for category in data["categories"]] == [NAMED, "cluster-01", "cluster-02"]
    names.write_text(names.read_text().replace("[0, 4, 1]", "[1, 3, 1]"))
    assert "onerror" not in page_of(run, tmp_path / "objects_page", f"--names={names}").read_text(), (
        "other clusters"
    )


MANY = 20_000


def many(folder: Path) -> Path:
    """A page of so many objects of a hundred photographs, none of which is there, with a sheet of one
    colour.
    """
    rng = np.random.default_rng(0)
    categories = np.sort(rng.integers(1, K + 1, MANY))
    record: Any = {
        "objects": {
            "category": categories.tolist(),
            "score": (0.5 + 0.5 * rng.random(MANY)).round(4).tolist(),
            "picture": rng.integers(0, 100, MANY).tolist(),
            "area": rng.integers(1, 3000, MANY).tolist(),
            "box": [10, 10, 20, 20] * MANY,
            "outline": ["M0 0l512 0 0 512z"] * MANY,
        },
        "pictures": {
            "name": [f"photo-{number:03d}.jpg" for number in range(100)], "link": [""] * 100, "size": [64,
            48] * 100
        },
        "side": 96, "across": ACROSS, "per_sheet": MANY, "found": MANY, "sampled": 0, "looked_at": 100,
        "empty": 0,
        "tau": 0.5, "compare": "gt",
    }  # fmt: skip
    (folder / "objects_page").mkdir(parents=True)
    Image.new("RGB", (8 * 96, 96), "teal").save(folder / "objects_page/sheet-0001.jpg")
    page = folder / "objects.html"
    page.write_text(
        render("objects", gallery.context("many", record, "objects_page/", [1] * K, {})), encoding="utf-8"
    )
    return page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def press(browser: Browser, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        browser.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
        )


def settled(browser: Browser) -> None:
    """Wait until the page has drawn what a scroll or a filter asked for."""
    browser.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


CELLS = "document.querySelectorAll('#grid li').length"
COUNT = "document.getElementById('count').textContent"
FOCUSED = "document.activeElement.closest('li')?.getAttribute('aria-posinset')"


def set_field(browser: Browser, name: str, value: str) -> None:
    browser.value(
        f"(() => {{const field = document.querySelector('[name=\"{name}\"]'); field.value = '{value}';"
        "field.dispatchEvent(new Event('input', {bubbles: true}))})()"
    )


@pytest.mark.slow  # starts a browser
def test_thousands_of_objects_are_filtered_and_few_are_in_the_page(browser: Browser, tmp_path: Path) -> None:
    browser.requests.clear()
    page = many(tmp_path)
    objects = json.loads(page.read_text().partition('id="objects-data">')[2].partition("</script>")[0])[
        "objects"
    ]
    browser.resize(1400, 900)
    browser.open(page)
    assert browser.value(COUNT) == "20,000 objects" and 0 < browser.value(CELLS) < 200
    for share in (0.3, 0.77, 1):
        browser.value(f"scrollTo(0, {share} * document.body.scrollHeight)")
        settled(browser)
        assert 0 < browser.value(CELLS) < 200
    last = browser.value("document.querySelector('#grid li:last-child').getAttribute('aria-posinset')")
    assert last == "20000"

    set_field(browser, "score-from", "0.9")
    set_field(browser, "size-to", "50")
    browser.value("document.querySelector('[data-cluster=\"1\"]').click()")
    rows = zip(objects["category"], objects["score"], objects["area"], strict=True)
    wanted = sum(category == 2 and score >= 0.9 and area <= 1536 for category, score, area in rows)
    assert browser.value(COUNT) == f"{wanted:,} of 20,000 objects"
    assert browser.value("location.hash") == "#cluster=1&score-from=0.9&size-to=50"
    set_field(browser, "sort", "-size")
    largest = max(area for c, s, area in zip(*(objects[name] for name in ("category", "score", "area")),
    strict=True)
                  if c == 2 and s >= 0.9 and area <= 1536)  # fmt: skip
    label = browser.value("document.querySelector('#grid button').getAttribute('aria-label')")
    assert f"{100 * largest / 3072:.0f} %" in label
    browser.value("location.hash = '#cluster=0&file=PHOTO-007'")
    settled(browser)
    seen = zip(objects["category"], objects["picture"], strict=True)
    assert browser.value(COUNT).startswith(f"{sum(row == (1, 7) for row in seen)} of ")
    browser.value("document.getElementById('all').click()")
    assert browser.value(COUNT) == "20,000 objects"

    columns = browser.value(
        "new Set([...document.querySelectorAll('#grid li')].map((item) => item.style.left)).size"
    )
    browser.value("document.querySelector('#grid [tabindex=\"0\"]').focus()")
    press(browser, "ArrowRight", 39)
    press(browser, "ArrowDown", 40)
    assert browser.value(FOCUSED) == str(2 + columns)
    press(browser, "End", 35)
    assert browser.value(FOCUSED) == "20000" and browser.value(CELLS) < 200
    press(browser, "Enter", 13)
    assert browser.value("document.getElementById('place').textContent") == "20,000 of 20,000"
    press(browser, "ArrowLeft", 37)
    press(browser, "Escape", 27)
    settled(browser)
    assert browser.value(FOCUSED) == "19999" and not browser.value("document.getElementById('one').open")

    allowed = {page.resolve().as_uri(), (tmp_path / "objects_page/sheet-0001.jpg").resolve().as_uri()}
    assert {request.partition("#")[0] for request in browser.requests} == allowed and browser.complaints == []


@pytest.mark.slow
def test_an_object_is_enlarged_from_its_photograph(run: Synthetic, browser: Browser, tmp_path: Path) -> None:
    record = made(run, tmp_path / "objects_page")
    page = page_of(run, tmp_path / "objects_page")
    browser.requests.clear()
    for width, mobile in ((1400, False), (390, True)):
        browser.resize(width, 800, mobile=mobile)
        browser.open(page)
        assert browser.value("document.documentElement.scrollWidth") == width
    browser.value(
        "localStorage.setItem('maskdistill names tiny 0 4 1',"
        " JSON.stringify({given: JSON.stringify(['', '', '']), names: ['disc', '', '']}))"
    )
    browser.open(page)
    first = "document.querySelector('#grid button')"
    assert browser.value(f"{first}.querySelector('.told').textContent") == "disc"
    browser.value(f"{first}.click()")
    shown = (
        "[...document.querySelectorAll('.view img')].map((image) => image.decode().then(() => "
        "image.naturalWidth))"
    )
    assert browser.value(f"Promise.all({shown})") == [64, 64]
    assert (
        browser.value("document.querySelector('#whole path').getAttribute('d')")
        == record["objects"]["outline"][0]
    )
    photo = (tmp_path / unquote(record["pictures"]["link"][0])).resolve()
    assert photo == Path(run.root / "photos" / f"{HOSTILE}.png").resolve()
    assert f"file://{photo}" in map(unquote, browser.requests)
    assert all(request.startswith("file://") for request in browser.requests) and browser.complaints == []

    photo.rename(photo.with_suffix(".away"))
    browser.open(page)
    browser.value(f"{first}.click()")
    browser.value("new Promise((done) => setTimeout(done, 200))")
    assert "cannot be shown" in browser.value("document.querySelector('#near figcaption').textContent")
    photo.with_suffix(".away").rename(photo)
    assert browser.complaints and all("ERR_FILE_NOT_FOUND" in said for said in browser.complaints)

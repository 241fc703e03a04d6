"""The report in a browser: a small run whose counts and scores the real stages made, and a user who tries
things.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import PROGRAM, Browser, chromium, wait_for
from synthetic_run import CLASSES, HEIGHT, WIDTH, K, Synthetic

from maskdistill.annotations.names import ClusterNames, read_names
from maskdistill.cli import main
from maskdistill.formats import rle
from maskdistill.runtime.files import read_json, write_json

pytestmark = pytest.mark.slow  # whole reports
ACCESS = Path(__file__).with_name("accessibility.js").read_text()
HOSTILE_NAME = "</script><img src=x onerror=alert(1)> 'ü'"
SHARDS = ("shard-0000", "shard-0001")


class Counted(Synthetic):
    """A synthetic run with objects in its ground truth, whose pseudo-labels, counts and scores are made by
    the stages.

    Of its cluster 3, whose candidates are a single pixel, nothing is an object.
    """

    def count(self, tau: str = "0.75") -> None:
        truth = read_json(self.root / "truth" / "instances.json") | {"images": []}
        for number, (_, labels) in self.scenes.items():
            size = {"id": number, "file_name": self.keys[number], "height": HEIGHT, "width": WIDTH}
            truth["images"].append(size | {"has_masks": True, "has_semantic": True, "evaluated": True})
            for label in CLASSES:
                code = rle.encode(labels == label)
                found = {
                    "category_id": label,
                    "segmentation": code,
                    "bbox": rle.bbox(code),
                    "area": rle.area(code),
                }
                truth["annotations"].append(
                    found | {"id": len(truth["annotations"]), "image_id": number, "iscrowd": 0}
                )  # fmt: skip
        write_json(self.root / "truth" / "instances.json", truth)
        manifest = ["--manifest", str(self.root / "manifest.csv")]
        candidates = [str(self.seed / "candidates" / f"{name}.json") for name in SHARDS]
        for shard, name in enumerate(SHARDS):
            done = [
                "pseudo_labels",
                *manifest,
                "--shard",
                str(shard),
                "--candidates",
                candidates[shard],
                "--tau",
                tau,
            ]
            done += [
                "--num-clusters",
                str(K),
                "--params",
                "{}",
                "--output",
                str(self.tau / "pseudo_labels" / name),
            ]
            assert main(done) == 0
        scored = [*manifest, "--ground-truth", str(self.root / "truth" / "instances.json"), "--params", "{}"]
        scored += ["--num-clusters", str(K)]
        summary = ["label_summary", *manifest, "--candidates", *candidates, "--params", "{}"]
        assert main([*summary, "--output", str(self.root / "label_summary.json")]) == 0
        self.quality = str(self.root / "quality.json")
        assert (
            main(["candidate_quality", *scored, "--candidates", *candidates, "--output", self.quality]) == 0
        )
        self.evaluations = []
        for stage, folder in (("detector", self.tau), ("segmenter", self.round)):
            maps = folder / ("pseudo_labels" if stage == "detector" else "predictions")
            self.evaluations.append(str(folder / "evaluation" / f"{stage}.json"))
            options = ["--candidates", *candidates] if stage == "detector" else []
            options += ["--label-dirs", *(str(maps / name) for name in SHARDS), "--seed", "11"]
            assert (
                main(["evaluation", "--stage", stage, *scored, *options, "--output", self.evaluations[-1]])
                == 0
            )

    def arguments(self, scored: bool = True) -> list[str]:
        return [*super().arguments(scored), *(["--quality", self.quality] if scored else [])]

    def made(self) -> dict[str, Any]:
        """Counts of the run's own pseudo-labels, summed over their shards."""
        parts = [read_json(self.tau / "pseudo_labels" / name / "summary.json") for name in SHARDS]
        found = {name: sum(part[name] for part in parts) for name in ("images", "kept", "fallback", "empty")}
        covered = sum(part["mean_coverage"] * part["images"] for part in parts) / found["images"]
        return found | {"coverage": 100 * covered}


def page_data(text: str) -> dict[str, Any]:
    """What the page's script reads of the thresholds."""
    _, _, rest = text.partition('<script type="application/json" id="tau-data">')
    return dict(json.loads(rest.partition("</script>")[0]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    made = Counted(tmp_path_factory.mktemp("browser"))
    made.count()
    made.build()
    return made


@pytest.mark.parametrize("tau", ["0.75", "0.955"])
def test_figures_at_the_runs_own_threshold_are_its_own(run: Counted, tmp_path: Path, tau: str) -> None:
    """Those of its pseudo-labels and of their score; 0.955 is none of the thresholds that are counted
    beforehand.
    """
    made = run
    if tau != "0.75":
        made = Counted(tmp_path, pseudo_labels={"tau": float(tau)})
        made.count(tau)
    data, own = page_data(made.build()[0]), made.made()
    at = data["own"]
    assert data["taus"][at] == float(tau) and data["taus"] == sorted(data["taus"])
    assert data["images"] == own["images"] and data["objects_kept"][at] == own["kept"]
    assert data["images_kept"][at] == own["images"] - own["fallback"] - own["empty"]
    assert data["fallback"][at] == own["fallback"] == (6 if tau == "0.955" else 0)
    assert data["coverage"][at] == pytest.approx(own["coverage"], abs=1e-3)
    if tau != "0.955":
        detector = read_json(made.tau / "evaluation" / "detector.json")
        assert data["truth"]["miou"][at] == pytest.approx(detector["miou"], abs=1e-3)
        summary = {row["tau"]: row for row in read_json(made.root / "label_summary.json")["by_tau"]}[
            float(tau)
        ]
        assert data["objects_kept"][at] == summary["objects_kept"]
        assert data["coverage"][at] == pytest.approx(100 * summary["mean_coverage"], abs=1e-3)


def test_samples_hold_every_threshold(run: Counted) -> None:
    data = page_data((run.root / "report.html").read_text())
    assert len(data["samples"]) == 4
    for sample in data["samples"]:
        assert sample["found"] == 3 and sample["levels"] == [95, 75, 20], (
            "of the thresholds 0, 0.01, ... those below a score"
        )
        assert sum(sample["runs"][::2]) == sample["width"] * sample["height"]
        assert set(sample["runs"][1::2]) == {0, 1, 2, 3}


def test_sections_on_quality_and_failures(run: Counted) -> None:
    text = (run.root / "report.html").read_text()
    for section in ("quality", "failures", "tau"):
        assert f'<section id="{section}"' in text
    assert "Where the pixels of each class went: segmenter" in text and "The same of the detector" in text
    assert "Worst images of each class" in text and "Missed objects" in text
    assert "Merged objects" not in text  # every candidate is an object or a single pixel
    scored = {run.root / name: (run.root / name).read_bytes() for name in ("report.html", "summary.json")}
    plain, _ = run.build(scored=False)
    assert page_data(plain)["truth"] == {}
    assert not any(f'<section id="{section}"' in plain for section in ("quality", "failures", "classes"))
    for path, content in scored.items():
        path.write_bytes(content)


@pytest.fixture(scope="module")
def browser(run: Counted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(autouse=True)
def as_it_opens(request: pytest.FixtureRequest) -> None:
    """Each test has a desktop's window and light colours, whatever was tried before."""
    if "browser" in request.fixturenames:
        opened = request.getfixturevalue("browser")
        opened.resize(1200, 900)
        opened.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}]
        )


def text_of(browser: Browser, *names: str) -> list[str]:
    return [browser.value(f"document.getElementById('tau-{name}').textContent") for name in names]


def press(browser: Browser, key: str, code: int) -> None:
    text = {"text": "\r"} if key == "Enter" else {}
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
        )


def painted(browser: Browser) -> int:
    """Coloured pixels of all drawings."""
    return int(
        browser.value(
            "[...document.querySelectorAll('canvas')].reduce((sum, drawn) => {"
            "const copy = Object.assign(document.createElement('canvas'), {width: drawn.width, height: "
            "drawn.height});const context = copy.getContext('2d');"
            "context.drawImage(drawn, 0, 0);"
            "const values = context.getImageData(0, 0, copy.width, copy.height).data;"
            "return sum + values.filter((value, place) => place % 4 === 3 && value === 173).length}, 0)"
        )
    )


def test_the_slider_shows_what_survives(run: Counted, browser: Browser) -> None:
    page = run.root / "report.html"
    data, own = page_data(page.read_text()), run.made()
    browser.open(page)
    names = ("value", "images", "fallback", "objects", "pixels", "precision", "coverage")
    start = ["0.75", "6 of 6", "0", str(own["kept"]), f"{own['coverage']:.1f} %", "100.0 %", "50.0 %"]
    assert text_of(browser, *names) == start
    counts = browser.value(
        "[...document.querySelectorAll('canvas')].map((c) => c.closest('figure').innerText)"
    )
    assert len(counts) == 4 and all("1 of 3" in count for count in counts), "0.75 itself is not above 0.75"
    coloured, line = painted(browser), browser.value("document.getElementById('tau-line').style.left")
    browser.value("document.getElementById('tau-slider').focus()")
    press(browser, "Home", 36)
    # all candidates, of which two an image are objects
    assert text_of(browser, *names) == [
        "0", "6 of 6", "0", "18", f"{data['coverage'][0]:.1f} %", "66.7 %", "100.0 %"
    ]  # fmt: skip
    assert painted(browser) > coloured > 0
    assert browser.value("document.getElementById('tau-line').style.left") != line
    press(browser, "End", 35)
    assert text_of(browser, "value", "images", "fallback", "objects") == ["1", "0 of 6", "6", "6"]
    assert "1 of 3, by fallback" in browser.value("document.getElementById('tau').innerText")
    browser.value("document.getElementById('tau-reset').click()")
    assert text_of(browser, *names) == start and painted(browser) == coloured


def test_names_are_saved_and_come_back(run: Counted, browser: Browser, tmp_path: Path) -> None:
    browser.open(run.root / "report.html")
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for cluster, name in ((0, "first: #1"), (2, HOSTILE_NAME)):
        browser.value(f"document.querySelector('input[data-cluster=\"{cluster}\"]').focus()")
        browser.call("Input.insertText", text=name)
    shown = browser.value("document.getElementById('names-yaml').textContent")
    browser.value("document.getElementById('names-save').click()")
    saved = tmp_path / "names-tiny.yaml"
    wait_for(saved.is_file)
    assert saved.read_text() == shown
    assert read_names(saved, K) == ClusterNames({0: "first: #1", 2: HOSTILE_NAME}, [0, 4, 1])
    assert main([*run.arguments(), "--names", str(saved)]) == 0
    assert read_json(run.root / "summary.json")["clusters"]["names"] == {"0": "first: #1", "2": HOSTILE_NAME}
    browser.open(run.root / "report.html")
    assert browser.value("document.querySelector('.cluster:nth-child(3) b').textContent") == HOSTILE_NAME
    typed = "[...document.querySelectorAll('input[data-cluster]')].map((input) => input.value)"
    assert browser.value(typed) == ["first: #1", "", HOSTILE_NAME]
    assert browser.value("document.getElementById('names-yaml').textContent") == shown
    other = tmp_path / "other.yaml"
    other.write_text(saved.read_text().replace("[0, 4, 1]", "[1, 3, 1]"))
    assert main([*run.arguments(), "--names", str(other)]) == 0
    assert read_json(run.root / "summary.json")["clusters"]["names"] == {}
    assert "were given to other clusters" in (run.root / "report.html").read_text()


def test_names_survive_a_reload_and_give_way_to_those_of_a_newer_page(run: Counted, browser: Browser) -> None:
    page = run.root / "report.html"
    text = page.read_text()
    browser.open(page)
    browser.value("localStorage.clear()")
    for cluster, name in ((0, "mushroom"), (2, HOSTILE_NAME)):
        browser.open(page)
        browser.value(f"document.querySelector('input[data-cluster=\"{cluster}\"]').focus()")
        browser.call("Input.insertText", text=name)
    browser.open(page)
    shown = "[...document.querySelectorAll('.cluster b')].map((title) => title.textContent)"
    assert browser.value(shown) == ["mushroom", "cluster 01", HOSTILE_NAME]
    assert '0: "mushroom"' in browser.value("document.getElementById('names-yaml').textContent")
    assert "mushroom" in browser.value("document.getElementById('overlays').innerText"), (
        "wherever it is named"
    )
    # as the report makes it when the file of names was edited by hand
    page.write_text(text.replace('data-cluster="1" value=""', 'data-cluster="1" value="newer"'))
    browser.open(page)
    assert browser.value(shown) == ["cluster 00", "newer", "cluster 02"]
    browser.value("localStorage.clear()")
    page.write_text(text)


def focused(browser: Browser) -> Any:
    return browser.value(
        "document.activeElement.firstElementChild?.alt ?? document.activeElement.textContent"
    )


def test_every_picture_enlarges_and_gives_the_focus_back(run: Counted, browser: Browser) -> None:
    browser.open(run.root / "report.html")
    # no picture stands outside a button, and one button of each strip is reached by Tab
    pictures = "[...document.querySelectorAll('main img, main .plot:not(.ruled) svg')]"
    assert browser.value(f"{pictures}.every((one) => one.closest('button.zoom'))")
    groups = "[...document.querySelectorAll('.pictures')].filter((group) => group.querySelector('.zoom'))"
    assert set(
        browser.value(f"{groups}.map((group) => group.querySelectorAll('.zoom[tabindex=\"0\"]').length)")
    ) == {1}
    browser.value("document.querySelector('#overlays .zoom').focus()")
    first = focused(browser)
    press(browser, "ArrowRight", 39)
    second = focused(browser)
    assert first != second
    press(browser, "Enter", 13)
    told = "document.querySelector('dialog[open]')?.querySelector('.told').textContent"
    assert browser.value(told) == f"{second} (2 of 4)" and focused(browser) == "close"
    large, small = (
        f"document.querySelector('{where} img').getBoundingClientRect().width" for where in (".place", "main")
    )
    assert browser.value(large) > 1.5 * browser.value(small)
    press(browser, "ArrowLeft", 37)
    assert browser.value(told) == f"{first} (1 of 4)"
    press(browser, "Escape", 27)
    assert browser.value(told) is None and focused(browser) == second
    for place in (".samples .zoom", ".plots .zoom"):
        browser.value(f"document.querySelector('{place}').click()")
        assert browser.value("document.querySelector('.place > *').getBoundingClientRect().width") > 300
        browser.value("document.querySelector('dialog').click()")  # beside the picture
        assert browser.value(told) is None


def test_words_are_explained_by_keyboard_where_they_first_stand(run: Counted, browser: Browser) -> None:
    browser.open(run.root / "report.html")
    words = browser.value(
        "[...document.querySelectorAll('button.word')].map((word) => word.textContent.toLowerCase())"
    )
    assert len(words) == len(set(words)) and {"miou", "ap50", "corloc", "τ", "purity", "ground truth"} <= set(
        words
    )
    browser.value(
        "[...document.querySelectorAll('button.word')].find((word) => word.textContent === 'CorLoc').focus()"
    )
    meaning = "document.querySelector('.meaning:popover-open')?.textContent"
    assert browser.value(meaning) is None
    press(browser, "Enter", 13)
    assert browser.value(meaning).startswith("Correct localisation")
    box = browser.value("document.querySelector('.meaning:popover-open').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0 and box["right"] <= browser.value("innerWidth")
    press(browser, "Escape", 27)
    assert browser.value(meaning) is None and focused(browser) == "CorLoc"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "mobile"), [(1200, False), (390, True)])
def test_the_page_fits_its_window_and_is_accessible(
    run: Counted, browser: Browser, width: int, mobile: bool, theme: str
) -> None:
    """Contrast, headings, landmarks, names, scroll areas that the keyboard reaches; with all that folds
    unfolded.
    """
    browser.resize(width, 800, mobile=mobile)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    browser.open(run.root / "report.html")
    browser.value("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    assert browser.value("document.documentElement.scrollWidth") == width
    tops = browser.value("[...document.querySelector('.overlays').children].map((one) => one.offsetTop)")
    assert len(set(tops)) == (2 if mobile else 1), "four photographs in a row, on a phone two"
    assert browser.value(ACCESS) == []


def test_what_is_not_accessible_would_be_seen(run: Counted, browser: Browser) -> None:
    browser.open(run.root / "report.html")
    browser.value(
        "document.querySelector('main').insertAdjacentHTML('afterbegin', `<h4>deep</h4><p "
        "style='color:#999'>faint</p><img src='data:,'><div "
        "style='overflow:auto;width:9px'>wider</div><button></button><table></table>`)"
    )
    told = " ".join(browser.value(ACCESS))
    for part in ("contrast 2.", "h4 after h1", "no alt", "scroll area", "no name", "table without a head"):
        assert part in told


def test_nothing_was_loaded_and_nothing_complained(run: Counted, browser: Browser) -> None:
    """Of all that the tests above did.

    That it would be seen is tried last: the policy lets no other script run.
    """
    assert set(browser.requests) <= {(run.root / "report.html").resolve().as_uri()} | {
        address for address in browser.requests if address.startswith("blob:")
    }
    assert browser.complaints == []
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = "
        "true'}))"
    )
    browser.value("fetch('http://127.0.0.1:9/').catch(() => null)")
    assert browser.value("window.ran") is None
    assert len(browser.complaints) >= 2

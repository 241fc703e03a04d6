"""Citations of the method sheet and the paper, as in [method §2.5] or [P §4.1], lead to an anchor of the
sheet.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SHEET = ROOT / "docs/explanation/method.md"
CITING = ("Snakefile", "maskdistill", "workflow", "config", "tests", "docs", "README.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".smk", ".yaml", ".md", ".j2"}
CITATION = re.compile(r"\[(method|P)[\s#]+([^\]]+)\]")
BARE = re.compile(r"\b[Mm]ethod\.md §|(?<!\[)\b[Mm]ethod (?:§|sections? \d|\d|[VKMSDERB]\d)")
"""The forms in use before there was one: ``method 9.3``, ``method.md §5``, ``method section 6, item 4``."""


def resolved(kind: str, places: str) -> Iterator[str]:
    """Anchors that the places of one citation stand for; a place in no known form is given back in angle
    brackets.
    """
    group = ""
    for place in re.split(r",\s*|\s(?=Eq\.)", " ".join(places.replace("#", " ").split())):
        found = re.fullmatch(r"(?:(§)|(Table|Fig|Eq)s?\.? )?([A-Z]?[\d.]*[a-z]?)(?:-(\w+))?", place)
        if found is None or not found[3]:
            yield f"<{place}>"
        elif kind == "method":
            yield f"s{place[1:]}" if found[1] else place
        else:
            group = "" if found[1] else found[2] or group
            numbers = range(int(found[3]), int(found[4]) + 1) if found[4] else [found[3]]
            yield from (f"P{group}{number}" for number in numbers)


def citations(text: str) -> Iterator[tuple[str, str]]:
    """Each place cited in a text: the citation as written, and its anchor."""
    for citation in CITATION.finditer(text):
        yield from ((citation[0], anchor) for anchor in resolved(*citation.groups()))


def unresolved(text: str, anchors: set[str]) -> list[str]:
    """What a text cites, or mentions in another form, without an anchor."""
    return [written for written, anchor in citations(text) if anchor not in anchors] + BARE.findall(text)


def citing_files() -> list[Path]:
    places = [ROOT / name for name in CITING if (ROOT / name).exists()]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return [file for file in files if file.name == "Snakefile" or file.suffix in SUFFIXES]


@pytest.fixture(scope="module")
def sheet() -> str:
    return SHEET.read_text()


@pytest.fixture(scope="module")
def anchors(sheet: str) -> set[str]:
    found = re.findall(r'<a id="([^"]+)"></a>', sheet)
    assert len(found) == len(set(found)), "an anchor stands twice"
    return set(found)


def test_every_citation_has_an_anchor(anchors: set[str]) -> None:
    texts = {file: file.read_text() for file in citing_files() if file != Path(__file__)}
    assert sum(len(list(citations(text))) for text in texts.values()) > 100
    lost = {
        str(file.relative_to(ROOT)): found
        for file, text in texts.items()
        if (found := unresolved(text, anchors))
    }
    assert lost == {}


@pytest.mark.parametrize(
    "planted",
    [
        "# [method §2.9]", "# [method D2,\n#   D99]", "# [method 9.3]", "# [P §9.9]", "# [P Tables 1-4]",
        "# method 9.3", "# [method.md §5]", "# method section 6", "# (method D2)", "# [method the second]",
    ],
)  # fmt: skip
def test_a_citation_without_an_anchor_is_found(planted: str, anchors: set[str]) -> None:
    assert unresolved(planted, anchors)


def test_every_form_of_a_citation_is_read() -> None:
    text = (
        "[method §2.5, D2] [method §5-names] [P §3.2 Eq. 1-2] [P Tables 1-3, S1, §A.4] [P §4.2,\n    # "
        "Fig. 3]"
    )
    assert [anchor for _, anchor in citations(text)] == [
        "s2.5", "D2", "s5-names", "P3.2", "PEq1", "PEq2", "PTable1", "PTable2", "PTable3", "PTableS1", "PA.4",
        "P4.2", "PFig3",
    ]  # fmt: skip


def test_links_within_the_sheet_lead_somewhere(sheet: str, anchors: set[str]) -> None:
    links = set(re.findall(r"\]\(#([^)]+)\)", sheet))
    assert links and links <= anchors


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            key: one for name, inner in value.items() for key, one in flat(inner, f"{prefix}.{name}").items()
        }
    return {prefix[1:]: value}


def settings(name: str) -> dict[str, Any]:
    return flat(yaml.safe_load((ROOT / "config" / name).read_text()))


def test_parameters_of_the_sheet_are_those_of_the_configuration(sheet: str) -> None:
    block = re.search(r"```yaml\n(.*?)```", sheet, re.DOTALL)
    assert block is not None
    paper, configured = flat(yaml.safe_load(block[1])), settings("defaults.yaml") | settings("config.yaml")
    assert {
        key: (paper[key], configured.get(key)) for key in paper if paper[key] != configured.get(key)
    } == {}
    # What `code:` says beside a value is what the code's preset has, and nothing of the preset is left out.
    code, noted, section = settings("presets/code.yaml"), {}, ""
    for line in block[1].splitlines():
        section = line.partition(":")[0] if line[0] != " " else section
        if found := re.search(r"^  (\w+): .*# .*code: ([\w.]+)", line):
            noted[f"{section}.{found[1]}"] = found[2]
    assert noted.pop("clusters.backbone") == code["clusters.backbone.arch"]
    assert noted == {key: str(code[key]) for key in code if key in paper and code[key] != paper[key]}

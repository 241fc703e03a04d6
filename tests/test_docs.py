"""The documentation: links lead somewhere, the site has every page, generated pages are current, README is
short.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import command_line_page
import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINKING = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    + [path for folder in ("docs", "config", "results") for path in (ROOT / folder).rglob("*.md")]
)
CODE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$|(?<!`)(`+)(?!`).+?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def prose(text: str) -> str:
    """Markdown without blocks and spans of code."""
    return CODE.sub("", text)


def links(text: str) -> Iterator[tuple[str, str]]:
    """Relative links of a page: path, empty for the page itself, and anchor, empty if there is none."""
    for match in LINK.finditer(prose(text)):
        link = match[1] or match[2]
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield path, anchor


def slug(heading: str) -> str:
    """The anchor that GitHub, and the site, give to a heading."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip())
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


@cache
def anchors(path: Path) -> set[str]:
    """Anchors of a page: of its headings, and those that are written out."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {slug(heading) for heading in headings} | set(re.findall(r'<a id="([^"]+)">', text))


def broken(page: Path, text: str) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for path, anchor in links(text):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(f"{path}#{anchor}" if anchor else path)
    return found


def nav_pages(entry: Any) -> Iterator[str]:
    """Pages of mkdocs.yml's nav, from any part of it."""
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from nav_pages(inner)


class Plain(yaml.SafeLoader):
    """Reads mkdocs.yml without making its Python objects."""


Plain.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def test_links_lead_somewhere() -> None:
    texts = {page: page.read_text() for page in LINKING}
    assert sum(len(list(links(text))) for text in texts.values()) > 150
    lost = {
        str(page.relative_to(ROOT)): found for page, text in texts.items() if (found := broken(page, text))
    }
    assert lost == {}


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("[a](how-to/no.md) `[b](no.md)`", ["how-to/no.md"]),
        ("```\n[a](no.md)\n```\n[b](explanation/method.md#s99)", ["explanation/method.md#s99"]),
        ("[a](explanation/method.md#s2.5) [b](../CONTRIBUTING.md#set-up) `` [c](`no.md) ``", []),
        ("[a](#nothing) [b](https://example.org/x) [c](#maskdistill)", ["#nothing"]),
        ('<img src="no.png" alt=""> [a](../config/README.md#where-to-begin)', ["no.png"]),
    ],
)  # fmt: skip
def test_a_link_that_leads_nowhere_is_found(text: str, lost: list[str]) -> None:
    assert broken(DOCS / "index.md", text) == lost


def test_the_site_has_every_page_once() -> None:
    pages = list(nav_pages(yaml.load((ROOT / "mkdocs.yml").read_text(), Plain)["nav"]))
    assert sorted(pages) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.slow  # loads the libraries of every command
def test_the_page_of_the_command_line_is_current() -> None:
    written = command_line_page.PAGE.read_text(encoding="utf-8")
    assert written == command_line_page.render(), "run: python tests/command_line_page.py"

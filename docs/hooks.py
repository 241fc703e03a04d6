"""For mkdocs: files of the repository that pages link to become part of the site, below ``repository/``."""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PLACE = "repository"
LINK = re.compile(r"(\]\()([^)#\s:]+)(?=[#)])|(<img src=\")([^\":]+)(?=\")")


def _target(link: str, source: Path, root: Path) -> Path | None:
    """The file outside of ``docs`` that a relative link leads to; None for other links."""
    path = Path(os.path.normpath(source.parent / link))
    outside = root in path.parents and root / "docs" not in path.parents
    return path if outside and path.is_file() else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and what is linked from there."""
    root = Path(config.config_file_path).parent
    waiting = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    added: set[Path] = set()
    while waiting:
        source = waiting.pop()
        for match in LINK.finditer(source.read_text(encoding="utf-8")):
            path = _target(match[2] or match[4], source, root)
            if path is None or path in added:
                continue
            added.add(path)
            name = f"{PLACE}/{path.relative_to(root).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
            waiting += [path] if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the added copies."""
    root = Path(config.config_file_path).parent
    source = Path(str(page.file.abs_src_path))
    here = Path(page.file.src_uri).parent

    def copied(match: re.Match[str]) -> str:
        link = match[2] or match[4]
        path = Path(os.path.normpath(source.parent / link))
        if root not in path.parents:
            return match[0]
        inside = root / "docs" in path.parents
        place = path.relative_to(root / "docs") if inside else Path(PLACE, path.relative_to(root))
        if files.get_file_from_path(place.as_posix()) is None:
            return match[0]
        return f"{match[1] or match[3]}{Path(os.path.relpath(place, here)).as_posix()}"

    return LINK.sub(copied, markdown)

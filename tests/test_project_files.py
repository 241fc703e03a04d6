"""Files about the project, for contributors and for services, name what is there."""

import ast
import re
import statistics
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION: str = PYPROJECT["project"]["version"]
DOCUMENTS = (
    "README.md", "CONTRIBUTING.md", "config/README.md", ".github/PULL_REQUEST_TEMPLATE.md",
    *(
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.stem != "method"
    ),
)  # fmt: skip


def read(name: str) -> str:
    return (ROOT / name).read_text()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", read("requirements.lock"), re.MULTILINE))


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        yield from job["steps"]


def test_hooks_have_the_locks_versions() -> None:
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    pinned = [item.split("==") for hook in hooks for item in hook.get("additional_dependencies", [])]
    assert {name for name, _ in pinned} == {"ruff", "snakefmt"}
    assert all(locked()[name] == version for name, version in pinned)


def test_hooks_run_what_the_makefile_runs() -> None:
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    tools = {re.sub(r"^\.venv/bin/", "", hook["entry"]).split()[0] for hook in hooks}
    checks = read("Makefile").partition("\nlint:")[2].partition("\nquick:")[0]
    assert tools == set(re.findall(r"\$\(BIN\)/(\w+)", checks))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_pinned_bounded_and_runs_what_there_is(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert all(0 < job["timeout-minutes"] <= 120 for job in workflow["jobs"].values())
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step
        else:
            command = re.fullmatch(r"(?:sudo )?make ([a-z ]+?)(?: PYTHON=\S+)?", step["run"])
            assert command and set(command[1].split()) <= make_targets(), step


def test_the_workflows_cover_make_test() -> None:
    commands = " ".join(step.get("run", "") for path in WORKFLOWS for step in steps(path))
    assert {"make lint", "make types", "make quick", "make test"} <= set(re.findall(r"make [a-z]+", commands))
    assert "lint types\n" in read("Makefile").partition("\ntest: ")[2]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_issue_forms_have_what_github_wants(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form == {"blank_issues_enabled": False}
        return
    assert form["name"] and form["description"]
    names = [field["id"] for field in form["body"]]
    assert len(names) == len(set(names)) and all(field["attributes"]["label"] for field in form["body"])
    assert {field["type"] for field in form["body"]} <= {"textarea", "input", "checkboxes"}


def test_versions_agree() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert (citation["version"], citation["license"]) == (VERSION, PYPROJECT["project"]["license"])
    assert re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)[:2] == ["Unreleased", VERSION]


def copied(dockerfile: str) -> list[str]:
    """Paths of the build context that a Dockerfile copies."""
    lines = re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE)
    return [
        word
        for line in lines
        if "--from=" not in line
        for word in line.split()[:-1]
        if not word.startswith("--")
    ]


def test_the_dockerfile_copies_paths_that_are_there() -> None:
    found = copied(read("Dockerfile"))
    kept = re.findall(r"^!(.*)$", read(".dockerignore"), re.MULTILINE)
    assert set(found) == set(kept) and all((ROOT / path).exists() for path in found)
    used = {line.split('"')[1] for line in read("Snakefile").splitlines() if line.startswith("include:")}
    assert all(any(fnmatch(path, f"{top}/*") for top in found) for path in used)


def test_the_dockerfile_installs_what_the_makefile_does() -> None:
    dockerfile = read("Dockerfile")
    assert PYPROJECT["project"]["optional-dependencies"]["crf"] == re.findall(r"pydensecrf2==\S+", dockerfile)
    default = re.search(r"^ARG PYTHON=(\S+)$", dockerfile, re.MULTILINE)
    assert default and default[1] in ("3.11", "3.12")
    left_out = re.search(r"sed -E '/\^\((\S+)\)/d'", dockerfile)
    assert left_out and any(name.startswith(tuple(left_out[1].split("|"))) for name in locked())
    assert {"torch", "torchvision", "faiss-cpu", "snakemake"} <= {
        name for name in locked() if not name.startswith(tuple(left_out[1].split("|")))
    }


def test_rules_keep_the_length_of_line_that_ruff_keeps() -> None:
    limit = PYPROJECT["tool"]["ruff"]["line-length"]
    files = [ROOT / "Snakefile", ROOT / "workflow/Snakefile", *(ROOT / "workflow").rglob("*.smk")]
    assert len(files) > 10
    long = [f"{path.name}:{number}" for path in files
            for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > limit]  # fmt: skip
    assert not long


def test_no_module_is_long() -> None:
    lengths = [len(path.read_text().splitlines()) for path in (ROOT / "maskdistill").rglob("*.py")]
    assert max(lengths) <= 400 and statistics.median(lengths) < 130


def test_the_catalog_of_workflows_finds_its_keys() -> None:
    usage = yaml.safe_load(read(".snakemake-workflow-catalog.yml"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"]["conda"] and (ROOT / "envs/maskdistill.yaml").is_file()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_what_there_is(name: str) -> None:
    text = read(name)
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    words = {word for span in code for line in span.splitlines() for word in line.partition("#")[0].split()}
    folders = "maskdistill|tests|workflow|config|docs|results|\\.github"
    paths = {word.rstrip(".,:;") for word in words if re.match(rf"({folders})/[\w./-]+$", word)}
    named = {path for path in paths if not re.search(r"NAME|STAGE|<|mine|results/", path)}
    missing = {path for path in named if not (ROOT / path).exists()}
    recipe = name.startswith(
        "docs/how-to/add-"
    )  # it names the files that are to be written, in folders that are there
    assert {path for path in missing if not (recipe and (ROOT / path).parent.is_dir())} == set()
    targets = {
        target
        for span in code
        for made in re.findall(r"^make ((?:[a-z]+ ?)+)", span, re.MULTILINE)
        for target in made.split()
    }
    assert targets <= make_targets()
    for thing, path in re.findall(r"`(\w+)` in\s+`([\w/.-]+\.(?:py|smk))`", text):
        assert re.search(rf"\b{thing}\b", read(path)), (thing, path)


def test_every_section_of_the_configuration_is_explained() -> None:
    sections = set(re.findall(r"^(?:# (?=run:))?(\w+):", read("config/defaults.yaml"), re.MULTILINE))
    page = read("config/README.md").partition("## Sections")[2]
    assert sections == set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", page, re.MULTILINE))))
    files = re.findall(r"`([\w/]+\.(?:yaml|json))`", read("config/README.md").partition("## Sections")[0])
    assert len(files) > 8 and all(
        (ROOT / "config" / file).is_file() for file in files if not file.startswith("config/")
    )


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions of a module and methods of its public classes, without nested, overloaded and special
    ones.
    """
    module = ast.parse(path.read_text())
    classes = [
        node for node in module.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    for prefix, body in [("", module.body), *((f"{node.name}.", node.body) for node in classes)]:
        for node in body:
            overloaded = isinstance(node, ast.FunctionDef) and "overload" in map(
                ast.unparse, node.decorator_list
            )
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not overloaded:
                yield f"{path.relative_to(ROOT)}: {prefix}{node.name}", node


@pytest.mark.slow
def test_every_public_function_has_a_docstring_and_says_what_it_returns() -> None:
    found = [item for path in sorted((ROOT / "maskdistill").rglob("*.py")) for item in public_functions(path)]
    assert len(found) > 700
    assert [name for name, node in found if not ast.get_docstring(node) or node.returns is None] == []

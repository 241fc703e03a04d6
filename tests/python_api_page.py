"""The page docs/reference/python-api.md, made from docstrings: ``python tests/python_api_page.py`` writes
it.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import maskdistill

PAGE = Path(__file__).parents[1] / "docs/reference/python-api.md"
ORDER = (
    "load_backbone", "Backbone", "distil_mask", "distil_masks", "embed_masks", "kmeans", "Clusters",
    "load_run", "Run",
    "Prediction", "FoundObject", "Category", "Verdict", "MaskDistillError",
)  # fmt: skip
"""As they are used, one after the other: the examples of one go on in those of the next."""
HEAD = """\
# Python API

This page is generated from docstrings by `python tests/python_api_page.py`; tests compare it, and run its
examples from top to bottom.

`from maskdistill import ...` gives what is named here. `import maskdistill` itself takes milliseconds: a
name's libraries load when it is first used. Types are published: `Picture` is an array of uint8 (H, W, 3),
`Mask` of bool, `Floats` of float32. Modules that are not named here may change with any version.

A mask from an array, in five lines; the picture is a generated scene:

```pycon
>>> from maskdistill import distil_mask, load_backbone
>>> from maskdistill.data.scenes import generate_scene
>>> image = generate_scene(seed=77, index=4).image
>>> backbone = load_backbone("vit_micro_patch8", weights="vit_micro_patch8")
>>> mask = distil_mask(image, backbone, short_side=128)
```

The weights that ship with the project never saw a photograph. For photographs take DINO's:
`load_backbone("dino_vits16", "official")` after `maskdistill weights --arch dino_vits16`
([weights](../how-to/weights.md)), and leave `short_side` out. `[method §2]` and the like stand for sections
of [the method](../explanation/method.md); keys of the configuration are in [its reference](configuration.md).
The examples below go on from one to the next; `results/demo` and `photo.jpg` stand for a finished run and a
picture.
"""
EXAMPLE = re.compile(r"```pycon\n(.*?)```", re.DOTALL)


def blocks(docstring: str) -> Iterator[str]:
    """Paragraphs of a docstring as Markdown: sections as lists, examples as code, roles as plain names."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", docstring).replace("``", "`")
    for paragraph in re.split(r"\n\s*\n", text):
        title, _, rest = paragraph.partition("\n")
        if paragraph.startswith(">>>"):
            yield f"```pycon\n{paragraph}\n```"
        elif re.fullmatch(r"(Args|Returns|Raises|Attributes):", title):
            yield f"**{title}**"
            yield entries(textwrap.dedent(rest), title)
        else:
            yield paragraph


def entries(text: str, title: str) -> str:
    """The entries of a section as a list; of what is returned as a sentence."""
    if title == "Returns:":
        return text
    items = [" ".join(item.split()) for item in re.split(r"\n(?=\S)", text)]
    return "\n".join(re.sub(r"^([\w, ]+): ", r"- `\1`: ", item) for item in items)


def signature(name: str, thing: object) -> str:
    """How a function is called, types as they stand in the source."""
    node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]  # type: ignore[arg-type]
    assert isinstance(node, ast.FunctionDef) and node.returns
    arguments = ast.unparse(node.args).removeprefix("self, ")
    return f"```python\n{name}({arguments}) -> {ast.unparse(node.returns)}\n```"


def members(thing: type) -> Iterator[tuple[str, object]]:
    """Public methods of a class, in the order of the source."""
    for name, member in vars(thing).items():
        if not name.startswith("_") and inspect.isfunction(member):
            yield name, member


def section(name: str) -> str:
    """What the page says of one name."""
    thing = getattr(maskdistill, name)
    parts = [f"## {name}", *blocks(inspect.getdoc(thing) or "")]
    if inspect.isfunction(thing):
        parts.insert(1, signature(name, thing))
    else:
        for member, function in members(thing):
            parts += [
                f"### {name}.{member}",
                signature(member, function),
                *blocks(inspect.getdoc(function) or ""),
            ]
    return "\n\n".join(parts) + "\n"


def render() -> str:
    """The page."""
    return "\n".join([HEAD, *map(section, ORDER)])


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")

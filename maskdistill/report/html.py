"""From pixels and texts to one self-contained HTML file."""

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import jinja2
import jinja2.runtime
from markupsafe import Markup
from PIL import Image

import maskdistill
from maskdistill.report.glossary import explained
from maskdistill.report.montage import Color, Rgb

Context: TypeAlias = dict[str, Any]
"""What a template, or a part of one, shows: values by the names that it uses."""
NO_WORDS: Mapping[str, str] = MappingProxyType({})
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Picture:
    """One image of the page: a data-URI with its size in pixels, texts and the caption's two parts."""

    uri: str
    width: int
    height: int
    alt: str
    title: str = ""
    note: str = ""


def picture(pixels: Rgb, alt: str, title: str = "", note: str = "", quality: int = 82) -> Picture:
    """uint8 RGB (H, W, 3) as a JPEG data URI, thin coloured lines crisp (no subsampling)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return Picture(f"data:image/jpeg;base64,{text}", width, height, alt, title, note)


def missing(photo: Rgb, title: str, note: str) -> Picture:
    """A placeholder of the photo's shape."""
    return Picture("", photo.shape[1], photo.shape[0], "", title, note)


def css(color: Color) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def render(template: str, context: Context, words: Mapping[str, str] = NO_WORDS) -> str:
    """Fill a page of ``templates/``. Texts are escaped; only SVG of our figures is taken as is.

    The page runs one script, ``zoom.js`` followed by ``<template>.js`` if that is there, which its content
    security policy names by its hash; no other script runs, and nothing is loaded.

    Args:
        template: name of the page.
        context: what it shows.
        words: to explain where they first stand, pattern -> meaning.
    """
    sources = [TEMPLATES / f"{name}.js" for name in ("zoom", template)]
    script = "\n".join(source.read_text(encoding="utf-8") for source in sources if source.is_file())
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    page = _templates().get_template(f"{template}.html.j2")
    return page.render(
        version=maskdistill.__version__, script=script, script_hash=digest, words=words, **context
    )


@cache
def _templates() -> jinja2.Environment:
    """The templates, each compiled once."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["explained"] = _explained
    return environment


@jinja2.pass_context
def _explained(context: jinja2.runtime.Context, text: str) -> Markup:
    return explained(text, meanings=context["words"])

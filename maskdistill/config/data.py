"""Sections ``data`` and ``support`` of the configuration: where pictures come from.

Each source describes itself in a module of its own (:mod:`maskdistill.data.sources`).
"""

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Annotated

from pydantic import Field, GetPydanticSchema

from maskdistill.data.sources.base import ImageSource
from maskdistill.data.sources.coco import CocoData as CocoData
from maskdistill.data.sources.folder import FolderData as FolderData
from maskdistill.data.sources.list import ListData as ListData
from maskdistill.data.sources.registry import image_sources
from maskdistill.data.sources.scenes import ScenesData as ScenesData
from maskdistill.data.sources.voc import VocData as VocData


def _one_of(fits: Callable[[type[ImageSource]], bool]) -> GetPydanticSchema:
    """Let a section be any suitable source; its ``kind`` tells which.

    The sources are looked up when a model with such a section is built, so that model has ``defer_build``.
    """

    def kinds() -> object:
        return Annotated[reduce(or_, filter(fits, image_sources().values())), Field(discriminator="kind")]

    return GetPydanticSchema(lambda section, handler: handler.generate_schema(kinds()))


DataConfig = Annotated[ImageSource, _one_of(lambda source: True)]
SupportConfig = Annotated[ImageSource, _one_of(lambda source: source.SUPPORT)]

"""Sections ``data`` and ``support`` of the configuration: where pictures come from.

Each source describes itself in a module of its own (:mod:`maskdistill.data.sources`).
"""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from maskdistill.data.sources.coco import CocoData as CocoData
from maskdistill.data.sources.folder import FolderData as FolderData
from maskdistill.data.sources.list import ListData as ListData
from maskdistill.data.sources.registry import SOURCES as SOURCES
from maskdistill.data.sources.scenes import ScenesData as ScenesData
from maskdistill.data.sources.voc import VocData as VocData

if TYPE_CHECKING:
    from maskdistill.data.sources.base import ImageSource

    DataConfig = ImageSource
    SupportConfig = ImageSource
else:
    DataConfig = reduce(or_, SOURCES.values())
    SupportConfig = reduce(or_, (source for source in SOURCES.values() if source.SUPPORT))

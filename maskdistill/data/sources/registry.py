"""All sources: every module of this package that defines one is found, so a new file is all that a new source
takes.
"""

import pkgutil
from importlib import import_module
from typing import get_args

from maskdistill.data import sources
from maskdistill.data.sources.base import ImageSource


def _found() -> dict[str, type[ImageSource]]:
    """The sources by the one value that their ``kind`` may have, what needs no pictures first, then by
    name.
    """
    for module in pkgutil.iter_modules(sources.__path__):
        import_module(f"{sources.__name__}.{module.name}")
    kinds = {
        str(get_args(source.model_fields["kind"].annotation)[0]): source
        for source in ImageSource.__subclasses__()
    }
    return dict(sorted(kinds.items(), key=lambda item: (not item[1].GENERATED, item[0])))


SOURCES = _found()
"""``kind`` -> source."""

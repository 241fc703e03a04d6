"""Sources of pictures: a module each, which says how it is configured and lists its pictures.

No module here reads ground truth (:mod:`maskdistill.data.truth`), or opens a picture.
"""

import maskdistill.config  # noqa: F401  # it holds the sources as sections, and so loads all whichever is asked for

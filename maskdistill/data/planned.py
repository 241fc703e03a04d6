"""How many pictures a run has, and what stands for their list: also before the workflow has brought them here."""

from pathlib import Path

from maskdistill.config import Config
from maskdistill.data.official_datasets import BUILT, BUILT_IMAGES
from maskdistill.data.sources import count_images, listing_fingerprint
from maskdistill.runtime.files import canonical_json, sha256_text


def is_built(config: Config) -> bool:
    """Whether the data that the configuration has the workflow build lies there."""
    return Path(BUILT, str(config.datasets.build), "build.json").is_file()


def count_planned(config: Config) -> int:
    """Pictures of data and support: counted, or as stated for official data that is not here yet.

    Raises:
        MaskDistillError: as :func:`maskdistill.data.sources.count_images`.
    """
    build = config.datasets.build
    own_support = config.support is not None and getattr(config.support, "root", "").startswith(f"{BUILT}/")
    if build is None or is_built(config):
        return count_images(config.data) + (count_images(config.support) if config.support else 0)
    if config.datasets.num_images is not None:
        return config.datasets.num_images
    images, rest = BUILT_IMAGES[build]
    if config.support is None:
        return images
    return images + (rest if own_support else count_images(config.support))


def planned_listing(config: Config) -> list[str]:
    """What changes when pictures do: of built data its sections, as the record of the build is followed beside."""
    listing = []
    for source in (config.data, config.support):
        if source is None:
            continue
        place = getattr(source, "images", getattr(source, "root", ""))
        built = config.datasets.build is not None and place.startswith(f"{BUILT}/")
        listing.append(sha256_text(canonical_json(source.model_dump())) if built else listing_fingerprint(source))
    return listing

"""How many pictures a run has, and the fingerprint of their list, even before they are here."""

from collections import Counter
from pathlib import Path

from maskdistill.config import Config, VocData
from maskdistill.config.datasets import BUILT
from maskdistill.config.roles import has_ground_truth, label_free
from maskdistill.data.listing import count_images, iter_images, listing_fingerprint, with_support
from maskdistill.data.official_datasets import BUILT_IMAGES
from maskdistill.data.settled import settled_listing
from maskdistill.data.sources.base import Look
from maskdistill.data.splits import SPLITS
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import canonical_json, sha256_text


def is_built(config: Config) -> bool:
    """Whether the data that the configuration has the workflow build lies there."""
    return Path(BUILT, str(config.datasets.build), "build.json").is_file()


def kept_folder(config: Config) -> Path:
    """Where sources keep what takes long to find out: beside the run's manifest."""
    return Path(f"results/{config.run}/data")


def count_planned(config: Config, left_out: Counter[str] | None = None) -> int:
    """Pictures of data and support: counted, or as stated for official data that is not here yet.

    Args:
        left_out: as of :func:`maskdistill.data.listing.iter_images`, where pictures are counted.

    Raises:
        MaskDistillError: as :func:`maskdistill.data.listing.count_images`.
    """
    build = config.datasets.build
    if build is None or is_built(config):
        return count_images(config.data, left_out, kept=kept_folder(config)) + count_support(config)
    if config.datasets.num_images is not None:
        return config.datasets.num_images
    return BUILT_IMAGES[build][0] + count_support(config)


def count_support(config: Config) -> int:
    """Pictures of the support set: counted, or as stated where it is built and not here yet."""
    support, build = config.support, config.datasets.build
    if support is None:
        return 0
    if build is not None and not is_built(config) and support.place.startswith(f"{BUILT}/"):
        return BUILT_IMAGES[build][1]
    return count_images(support, section="support", kept=kept_folder(config))


def count_fitted(config: Config, images: int) -> int:
    """Pictures that K-means may be fitted on, of so many in all; all of them where that is not known yet."""
    here = config.datasets.build is None or is_built(config)
    fitted = config.data.count_fitted() if here else None
    return images if fitted is None else fitted + count_support(config)


def check_annotations(config: Config) -> str:
    """The file that ``data.annotations`` names, present or made by the workflow; empty if none.

    Raises:
        MaskDistillError: there is no such file.
    """
    path = config.data.truth_file()
    if path is not None and config.datasets.build is None and not Path(path).is_file():
        raise MaskDistillError(
            f"data.annotations: {path}: no such file; correct the path, or leave it out: nothing is scored "
            "then"
        )
    return path or ""


def planned_listing(config: Config, manifest: str | None = None) -> str:
    """What changes when pictures do; for built data its sections, as its record is an input.

    Pictures that only look changed, but have the content that the run's manifest saw, change nothing.

    Args:
        config: the configuration.
        manifest: where the run's manifest will lie; default: in ``results/<run>``.
    """
    seen = Path(manifest) if manifest else kept_folder(config) / "manifest.csv"
    listing, kept = [], seen.parent
    for section, source in (("data", config.data), ("support", config.support)):
        if source is None:
            continue
        built = config.datasets.build is not None and source.place.startswith(f"{BUILT}/")
        own = sha256_text(canonical_json(label_free(source))) if built else ""
        listing.append(own or listing_fingerprint(source, section, kept))
    planned = sha256_text(canonical_json(listing))
    if config.data.GENERATED or config.datasets.build is not None:
        return planned
    return settled_listing(
        planned,
        lambda: with_support(iter_images(config.data, kept=kept), config.support, kept=kept),
        seen,
    )


def truth_listing(config: Config) -> str:
    """What changes when the ground truth does that lies in many files: their names, sizes, times and inodes.

    Empty where the ground truth is a file that a rule names among its inputs, or follows from the section.
    """
    return "" if config.datasets.build is not None else config.data.truth_listing()


def scored_listing(config: Config) -> str:
    """What changes when other pictures are to be scored; empty if an input shows it anyway."""
    keys = None if config.datasets.build is not None else config.data.scored_keys()
    return "" if keys is None else sha256_text(canonical_json(sorted(keys)))


def count_roles(config: Config) -> tuple[int, int]:
    """Pictures to train on and to score; before a download, the published counts."""
    build = config.datasets.build
    if build is None or is_built(config):
        if config.data.GENERATED:
            fitted = config.data.count_fitted() or 0
            return fitted, config.data.count(Look()) - fitted
        images = list(iter_images(config.data, kept=kept_folder(config)))
        listed = config.data.scored_keys()
        scored = sum(image.eval for image in images) if listed is None else len(listed)
        return sum(image.train for image in images), scored if has_ground_truth(config.data) else 0
    if isinstance(config.data, VocData):
        counts = [_published(name) for name in (config.data.train_list, config.data.eval_list)]
        return counts[0], counts[1]
    count = BUILT_IMAGES[build][0]
    return count, count


def _published(name: str) -> int:
    """Length of a list below ImageSets of the built VOC; 0 where none of that name is made."""
    both = sum(SPLITS[f"VOC{year} Main/trainval"].images for year in (2007, 2012))
    known = {"Main/trainval": both, "Segmentation/train_aug": SPLITS["train_aug"].images}
    known |= {f"Main/trainval{year}": SPLITS[f"VOC{year} Main/trainval"].images for year in (2007, 2012)}
    known |= {
        f"Segmentation/{p}": SPLITS[f"VOC2012 Segmentation/{p}"].images for p in ("train", "val", "trainval")
    }
    return known.get(name, 0)

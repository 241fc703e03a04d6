"""The manifest, one piece and only the needed columns at a time: memory stays flat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskdistill.data.manifest import FILE_COLUMNS, check_manifest, with_segmenter
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import damaged

CHUNK = 5_000


def all_rows(path: str | Path, columns: Sequence[str], chunk: int = CHUNK) -> Iterator[pd.DataFrame]:
    """Rows of a manifest in order, quarantined ones too, at most ``chunk`` at once, with the given columns.

    Raises:
        MaskDistillError: if the file is missing or is not a manifest.
    """
    check_manifest(path)
    wanted = {*columns, "train"} if "segmenter" in columns else {*columns}
    types = {name: FILE_COLUMNS[name] for name in wanted}
    try:
        with pd.read_csv(
            path, usecols=lambda name: name in wanted, dtype=types, na_filter=False, encoding="utf-8",
            chunksize=chunk
        ) as reader:  # fmt: skip
            for frame in reader:
                yield (with_segmenter(frame) if "segmenter" in columns else frame)[list(columns)]
    except FileNotFoundError:
        raise MaskDistillError(f"{path}: no such file; run the manifest stage first") from None
    except (ValueError, KeyError) as error:
        raise damaged(path, f"not a manifest ({error})") from None


def usable_rows(path: str | Path, columns: Sequence[str], chunk: int = CHUNK) -> Iterator[pd.DataFrame]:
    """Rows with status ok, as :func:`all_rows`."""
    wanted = [*columns, *(["status"] if "status" not in columns else [])]
    for frame in all_rows(path, wanted, chunk):
        yield frame.loc[frame["status"] == "ok", list(columns)]


def usable_shards(path: str | Path, columns: Sequence[str]) -> Iterator[tuple[int, pd.DataFrame]]:
    """Usable rows shard by shard, ``(shard, rows)``, without shards that have none.

    A manifest lists its shards one after the other, so one shard is in memory at a time.

    Raises:
        MaskDistillError: as :func:`usable_rows`, or a shard is split.
    """
    named = [*columns, *(["shard"] if "shard" not in columns else [])]
    number, parts = -1, list[pd.DataFrame]()
    for frame in usable_rows(path, named):
        shards = frame["shard"].to_numpy(np.int64)
        if (np.diff(shards, prepend=number) < 0).any():
            raise MaskDistillError(f"{path}: shards do not follow one another; make the manifest again")
        for shard in np.unique(shards).tolist():
            if shard > number and parts:
                yield number, pd.concat(parts, ignore_index=True)[list(columns)]
                parts = []
            number = shard
            parts.append(frame[shards == shard])
    if parts:
        yield number, pd.concat(parts, ignore_index=True)[list(columns)]


@dataclass(frozen=True)
class Roles:
    """What clustering needs to know of the usable images.

    Attributes:
        image_id: int64 (n,), ascending.
        shard: int32 (n,).
        fitted: bool (n,): K-means is fitted on training images and on the support set, that is on all but
            those that are only scored or only the segmenter's. Support images are in no set.
    """

    image_id: npt.NDArray[np.int64]
    shard: npt.NDArray[np.int32]
    fitted: npt.NDArray[np.bool_]

    def find(self, image_ids: npt.NDArray[np.int64], name: str) -> npt.NDArray[np.intp]:
        """Places of ``image_ids`` in the arrays.

        Raises:
            MaskDistillError: if an image is not usable; ``name`` is the file that has it.
        """
        places = np.searchsorted(self.image_id, image_ids)
        known = places < len(self.image_id)
        known[known] = self.image_id[places[known]] == image_ids[known]
        if not known.all():
            raise MaskDistillError(
                f"{name}: the manifest has no usable image {image_ids[~known][0]}, which has an embedding;"
                " make the masks and embeddings again"
            )
        return places


def read_roles(path: str | Path) -> Roles:
    """Ids, shards and roles of the usable images of a manifest: 13 bytes an image."""
    ids, shards, fitted = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.bool_)]
    for rows in usable_rows(path, ("image_id", "shard", "train", "eval", "segmenter")):
        ids.append(rows["image_id"].to_numpy(np.int64))
        shards.append(rows["shard"].to_numpy(np.int32))
        fitted.append((rows["train"] | ~(rows["eval"] | rows["segmenter"])).to_numpy(np.bool_))
    order = np.argsort(np.concatenate(ids), kind="stable")
    return Roles(np.concatenate(ids)[order], np.concatenate(shards)[order], np.concatenate(fitted)[order])

"""Ground truth of generated scenes: what the generator painted."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from maskdistill.data.manifest import ImageRow
from maskdistill.data.scenes import CATEGORIES, generate_scene
from maskdistill.data.sources.scenes import ScenesData
from maskdistill.data.truth.base import SourceTruth, object_of
from maskdistill.data.truth_types import ImageTruth, Losses, Place, check_size


class Truth(SourceTruth[ScenesData]):
    """Each scene is generated again."""

    FILES: ClassVar[bool] = False

    def count_classes(self, built: bool) -> int:
        """Of the generator."""
        return len(CATEGORIES)

    def read(self, images: Sequence[ImageRow], losses: Losses) -> tuple[list[str], Iterator[ImageTruth]]:
        """Masks as they were painted; nothing is ever dropped."""
        return list(CATEGORIES), self._scenes(images)

    def _scenes(self, images: Sequence[ImageRow]) -> Iterator[ImageTruth]:
        for row in images:
            index = int(row.key.rpartition("-")[2])
            scene = generate_scene(self.data.seed, index, self.data.size, self.data.difficulty)
            check_size(Place(f"generated scene {index}"), row, *scene.semantic.shape)
            objects = [
                object_of(int(label), mask) for label, mask in zip(scene.labels, scene.masks, strict=True)
            ]
            yield ImageTruth(row.image_id, objects, True, scene.semantic)

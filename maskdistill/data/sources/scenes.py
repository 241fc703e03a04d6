"""Generated scenes with exact ground truth."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from maskdistill.config.types import NUMBER, Fraction, Seed
from maskdistill.data.listed import ListedImage
from maskdistill.data.sources.base import ImageSource, Look, absolute
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import sha256_text

SceneSide = Annotated[int, Field(ge=64, le=512), NUMBER]
Scenes = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]


class ScenesData(ImageSource):
    """Generated scenes with exact ground truth (no download)."""

    GENERATED: ClassVar[bool] = True

    kind: Literal["scenes"] = "scenes"
    num_train: Scenes = Field(300, description="scenes that every unsupervised stage trains on")
    num_eval: Scenes = Field(100, description="further scenes that only evaluation scores")
    size: SceneSide = Field(128, description="shortest side in pixels")
    difficulty: Fraction = Field(
        0.5, description="0: plain backgrounds, clean light; 1: camouflage, occlusion"
    )
    seed: Seed = Field(0, description="seed of the generator")

    @property
    def place(self) -> str:
        """None that is configured: they lie in the run's own folder."""
        return ""

    def pictures(self, look: Look) -> Iterator[ListedImage]:
        """scene-00001 ... in order, the first ``num_train`` to train on, the others to score."""
        if look.scenes is None:
            raise MaskDistillError(
                "data.kind: scenes needs --scenes-dir, the folder that holds the generated scenes"
            )
        folder = absolute(look.scenes)
        for i in range(1, self.num_train + self.num_eval + 1):
            train = i <= self.num_train
            yield ListedImage(f"scene-{i:05d}", folder / f"scene-{i:05d}.jpg", train, not train)

    def count(self, look: Look) -> int:
        """As configured: they need not be there yet."""
        return self.num_train + self.num_eval

    def count_fitted(self) -> int | None:
        """Those to train on."""
        return self.num_train

    def fingerprint(self, look: Look) -> str:
        """Of the section, which the scenes follow from."""
        return sha256_text(self.model_dump_json())

    def describe(self) -> str:
        """Their number."""
        return f"{self.num_eval} generated scenes"

    @property
    def has_truth(self) -> bool:
        """Always: the generator knows."""
        return True

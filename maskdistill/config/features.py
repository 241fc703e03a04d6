"""Section ``features`` of the configuration."""

from typing import Literal

from pydantic import Field

from maskdistill.config.types import Batch, Precision, Resized, Section, Workers

DECODING_WORKERS = (
    "image decoding processes; null: on a GPU one less than the threads granted, on a CPU none, where they "
    "would take cores from the network"
)


class FeaturesConfig(Section):
    """CLS query and patch keys of the last self-attention block [P §3.2, §4.1]."""

    short_side: Resized = Field(640, description="shortest side in pixels after resizing")
    batch_size: Batch = Field(8, description="images of equal size per forward pass")
    precision: Precision = Field("float32", description="precision of the network's matrix products")
    dtype: Literal["float32", "float16"] = Field("float32", description="type in which keys are stored")
    store: bool = Field(
        True,
        description="store the keys, which sweep.topk and baselines need; false: compute the same masks "
        "directly",
    )
    workers: Workers | None = Field(None, description=DECODING_WORKERS)

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
    batch_size: Batch = Field(8, description="images of equal size forwarded together")
    precision: Precision = Field("float32", description="of the network's matrix products")
    dtype: Literal["float32", "float16"] = Field("float32", description="storage type of the keys")
    store: bool = Field(
        True,
        description="keep the keys, to sweep top-k or run baselines; false: straight to masks, which are "
        "equal",
    )
    workers: Workers | None = Field(None, description=DECODING_WORKERS)

"""Section ``clusters`` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from maskdistill.config.backbone import BackboneConfig
from maskdistill.config.features import DECODING_WORKERS
from maskdistill.config.paths import UserPath
from maskdistill.config.types import NUMBER, DistinctSome, Positive, Precision, Resized, Section, Workers

MAX_CLUSTERS = 254
"""Labels are 1..K in uint8, and 255 means ignore wherever labels are read."""
FITTED = 1_000_000
Iterations = Annotated[int, Field(ge=1, le=1_000_000), NUMBER]
Compared = Annotated[int, Field(ge=2, le=1_000_000), NUMBER]


class ClustersConfig(Section):
    """K-means over CLS features of the masked images [P §3.2, §4.1]."""

    num_clusters: Positive = Field(20, description="K before over-clustering; background is not a cluster")
    input: Literal["masked_image", "masked_crop", "masked_square", "crop"] = Field(
        "masked_image",
        description="what the ViT sees; masked_square: the masked picture in a square around the mask's box, "
        "1.24 times its longer side",
    )
    short_side: Resized | None = Field(
        None, description="shortest side in pixels to resize to first; null: no resizing"
    )
    precision: Precision = Field("float32", description="precision of the network's matrix products")
    workers: Workers | None = Field(None, description=DECODING_WORKERS)
    backbone: BackboneConfig | None = Field(
        None,
        description="another network for the embeddings (the released code uses ViT-S/8); null: the network "
        "that made the masks",
    )
    whiten: Literal["std", "none"] = Field("std", description="divide columns by their standard deviation")
    l2: bool = Field(True, description="L2-normalise rows")
    algorithm: Literal["faiss", "minibatch"] = Field(
        "faiss",
        description="faiss: Lloyd's K-means; minibatch: scikit-learn's MiniBatchKMeans as in the released "
        "code, with its own 100 iterations and 3 starts",
    )
    spherical: bool = Field(False, description="keep centroids at unit length (faiss); use with l2: true")
    niter: Iterations = Field(
        100,
        description="largest number of K-means iterations per start (faiss); it stops early at convergence",
    )
    nredo: Iterations = Field(
        10, description="number of K-means starts, each by k-means++; the best is kept (faiss)"
    )
    overcluster: Positive = Field(1, description="K = overcluster * num_clusters [P §4.2, Fig. 3]")
    max_fit: Positive = Field(
        FITTED,
        description="largest number of masks that K-means is fitted on; if there are more, a uniform "
        "sample, which does not depend on the shards. Fitting takes 4 * dim * max_fit bytes. The centroids "
        "are applied to all masks",
    )
    candidates_k: DistinctSome[Compared] | None = Field(
        None, description="numbers of clusters that the report compares without labels; null: values around K"
    )
    names: UserPath | None = Field(
        None,
        description="YAML file with names for the clusters, saved from the report; used by report, predict "
        "and export. A change trains nothing again",
    )

    @property
    def total(self) -> int:
        """K with over-clustering."""
        return self.overcluster * self.num_clusters

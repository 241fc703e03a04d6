"""How many clusters a configuration may ask for, given the number of pictures."""

from typing import Any

from maskdistill.config.clusters import MAX_CLUSTERS
from maskdistill.config.messages import yaml_line
from maskdistill.config.run import Config
from maskdistill.runtime.errors import MaskDistillError


def refuse_more_clusters(config: Config, images: int, figure3: bool = False) -> None:
    """Refuse more clusters than there can be masks or labels, before anything is computed.

    Args:
        images: pictures that K-means may be fitted on, readable or not.
        figure3: check the multiples in ``paper.overcluster`` too. Only their masks are scored, so the number
            of labels does not limit them.

    Raises:
        MaskDistillError: with the corrected line.
    """
    clusters, masks = config.clusters, images * config.masks.most
    most, factor = min(masks, MAX_CLUSTERS), clusters.overcluster
    scarce = f"need as many masks, and {images} training images give at most {masks}"
    reason = f"are too many: label PNGs hold 1 to {MAX_CLUSTERS}" if masks > MAX_CLUSTERS else scarce
    remedy = "" if masks > MAX_CLUSTERS else " or give more images"

    right: dict[str, Any] = {"num_clusters": max(1, most // factor)}
    if factor > most:
        right["overcluster"] = max(1, most)
    fitting = [count for count in config.sweep.num_clusters if count * factor <= most]
    for setting, wanted, line in (
        ("clusters", clusters.num_clusters, right),
        ("sweep", max(config.sweep.num_clusters, default=0), {"num_clusters": fitting}),
    ):
        if wanted * factor > most:
            product = f"{wanted} x overcluster {factor}" if factor > 1 else wanted
            raise MaskDistillError(
                f"{setting}.num_clusters: {product} clusters {reason}; write `{yaml_line(line)}`{remedy}"
            )

    if clusters.max_fit < masks:
        masks, scarce = (
            clusters.max_fit,
            f"need as many masks, and clusters.max_fit has {clusters.max_fit} fitted at most",
        )
    multiples = [count for count in config.paper.overcluster if count * clusters.num_clusters <= masks]
    if figure3 and multiples != config.paper.overcluster:
        product = f"{max(config.paper.overcluster)} x num_clusters {clusters.num_clusters}"
        corrected = yaml_line({"overcluster": multiples or [masks // clusters.num_clusters]})
        raise MaskDistillError(
            f"paper.overcluster: {product} clusters {scarce}; write `{corrected}` or give more"
            f" images{' and a larger max_fit' * (masks == clusters.max_fit)}"
        )

"""Which weights file each network of a run begins with, and whether it is there and right."""

from pathlib import Path

from maskdistill import layout
from maskdistill.backbones.registry import BACKBONES, RESNET_CHECKPOINTS, Official, find_official, how_to_get
from maskdistill.config import BackboneConfig, Config, DetectorConfig, SegmenterConfig
from maskdistill.config_paper import FrozenBackbone
from maskdistill.product.commands import CHECKOUT, enter
from maskdistill.runtime.download import check_sum
from maskdistill.runtime.errors import MaskDistillError

Network = BackboneConfig | DetectorConfig | SegmenterConfig | FrozenBackbone


def networks(config: Config) -> dict[str, Network]:
    """The networks of a run by the stage that uses them."""
    return {
        "backbone": config.backbone,
        "clusters": config.clusters.backbone or config.backbone,
        "detector": config.detector,
        "segmenter": config.segmenter,
    }


def official_weights(network: Network) -> Official | None:
    """The checkpoint that a network's ``weights`` names instead of a file; None where it is a file or trained here."""
    if network.arch in BACKBONES:
        return find_official(network.arch) if network.weights == "official" else None
    return RESNET_CHECKPOINTS.get(network.weights)


def checkpoint_name(network: Network) -> str:
    """The name by which ``maskdistill weights`` knows a network's official checkpoint."""
    return network.arch if network.arch in BACKBONES else network.weights


def weights_path(config: Config, stage: str, network: Network) -> str | None:
    """Path of a network's weights file, to be made by a rule or there already; None for ``random``.

    A known checksum of a file that is there is compared.

    Raises:
        MaskDistillError: no such file and no rule makes it, or a wrong checksum.
    """
    path, sha256 = network.weights, getattr(network, "sha256", None)
    if path == "random":
        return None
    if path == "pretrain":
        shared = stage == "clusters" and config.clusters.backbone is None
        return f"results/{config.run}/pretrain/{'backbone' if shared else stage}.safetensors"
    absent: str | bool = (
        "no such file. Fetch the checkpoint (README, 'What needs which download'), "
        "or write 'pretrain' to train one on your images"
    )
    if official := official_weights(network):
        path, sha256 = f"{layout.OFFICIAL}/{official.file}", sha256 or official.sha256
        absent = official.url is None and how_to_get(official, path)
    if not Path(path).is_file():
        if (CHECKOUT / path).is_file():
            raise MaskDistillError(
                f"{stage}.weights: {path}: no such file in {Path.cwd()}; it is in {CHECKOUT}, where runs are started"
                f" ({' && '.join(enter())}), or give its whole path"
            )
        if absent:
            raise MaskDistillError(f"{stage}.weights: {path}: {absent}")
    elif sha256:
        try:
            check_sum(path, sha256)
        except MaskDistillError as error:
            raise MaskDistillError(f"{stage}.weights: {error}") from None
    return path

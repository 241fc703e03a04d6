"""Which weights file each network of a run starts from, and whether it is present and correct."""

from pathlib import Path

from maskdistill.backbones.registry import (
    BACKBONES,
    RESNET_CHECKPOINTS,
    Official,
    find_checkpoint,
    find_official,
    how_to_get,
)
from maskdistill.config import BackboneConfig, Config, DetectorConfig, FrozenBackbone, SegmenterConfig
from maskdistill.runtime.download import check_sum
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import sha256_file
from maskdistill.workflow import layout
from maskdistill.workflow.commands import CHECKOUT, INSTALLED, enter

SHIPPED = "config/weights"
REHEARSAL = "a rehearsal: weights that never saw a photograph; take DINO's for results"
Network = BackboneConfig | DetectorConfig | SegmenterConfig | FrozenBackbone


def networks(config: Config) -> dict[str, Network]:
    """The networks of a run, by the stage that uses them."""
    return {
        "backbone": config.backbone,
        "clusters": config.clusters.backbone or config.backbone,
        "detector": config.detector,
        "segmenter": config.segmenter,
    }


def official_weights(network: Network) -> Official | None:
    """The checkpoint that a network's ``weights`` names; None if it names a file, or the network is trained
    here.
    """
    if network.arch in BACKBONES:
        return find_official(network.arch) if network.weights == "official" else None
    return RESNET_CHECKPOINTS.get(network.weights)


def checkpoint_name(network: Network) -> str:
    """The name of a network's official checkpoint in ``maskdistill weights``."""
    return network.arch if network.arch in BACKBONES else network.weights


def downloads(config: Config) -> dict[str, str]:
    """Name of each official checkpoint that a run downloads -> its path, relative to where runs start."""
    names = {checkpoint_name(network) for network in networks(config).values() if official_weights(network)}
    return {name: f"{layout.OFFICIAL}/{find_checkpoint(name).file}" for name in sorted(names)}


def licences(config: Config) -> list[str]:
    """One line per set of weights that a run starts from: whose, its licence, what uses it."""
    users: dict[str, list[str]] = {}
    for stage, network in networks(config).items():
        if official := official_weights(network):
            told = f"{checkpoint_name(network)}: {official.licence}, {official.page}"
        elif is_shipped(network.weights):
            told = f"{Path(network.weights).name}: Apache-2.0, ships with this project"
        elif network.weights in ("random", "pretrain"):
            continue
        else:
            told = f"{network.weights}: a file of yours, whose licence is for you to know"
        users.setdefault(told, []).append(stage)
    return [f"{told} ({', '.join(stages)})" for told, stages in users.items()]


def is_shipped(weights: str) -> bool:
    """Whether a path of weights leads into the folder of shipped weights."""
    path = Path(weights)
    return (path if path.is_absolute() else CHECKOUT / path).parent == CHECKOUT / SHIPPED


def looks_with_shipped(config: Config) -> bool:
    """Whether a run's masks or categories come from the shipped weights."""
    return any(
        is_shipped(network.weights)
        for network in (config.backbone, config.clusters.backbone or config.backbone)
    )


def began_with_shipped(sha256: str | None) -> bool:
    """Whether a file has the bytes of a shipped one."""
    return sha256 in {sha256_file(path) for path in (CHECKOUT / SHIPPED).glob("*.safetensors")}


def rehearsal(config: Config) -> str | None:
    """What to tell the user of a run on photographs that uses the shipped weights; None for other runs.

    Shipped weights were trained on generated scenes.
    """
    return REHEARSAL if config.data.kind != "scenes" and looks_with_shipped(config) else None


def weights_path(config: Config, stage: str, network: Network) -> str | None:
    """Path of a network's weights file, which a rule makes or which exists already; None for ``random``.

    An existing file is compared with its checksum, if known. Without a checkout, ``config/weights/...`` is
    the file that was installed with the package, unless there is one in the current folder.

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
        "no such file. Fetch the checkpoint (docs/how-to/weights.md), or write 'pretrain' to train one on "
        "your images"
    )
    if official := official_weights(network):
        path, sha256 = f"{layout.OFFICIAL}/{official.file}", sha256 or official.sha256
        absent = official.url is None and how_to_get(checkpoint_name(network), path)
    if INSTALLED and not Path(path).is_file() and is_shipped(path):
        path = str(CHECKOUT / path)
    if not Path(path).is_file():
        if not INSTALLED and (CHECKOUT / path).is_file():
            raise MaskDistillError(
                f"{stage}.weights: {path}: no such file in {Path.cwd()}; it is in {CHECKOUT}, where runs are "
                f"started ({' && '.join(enter())}), or give its whole path"
            )
        if absent:
            raise MaskDistillError(f"{stage}.weights: {path}: {absent}")
    elif sha256:
        try:
            check_sum(path, sha256)
        except MaskDistillError as error:
            raise MaskDistillError(f"{stage}.weights: {error}") from None
    return path

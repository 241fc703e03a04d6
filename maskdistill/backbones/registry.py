"""Every network by name: structure of vision transformers, original checkpoints, licences. Data only, no
torch.

Sources, read in 2026: facebookresearch/dino hubconf.py; facebookresearch/dinov2 dinov2/hub/backbones.py;
facebookresearch/dinov3 dinov3/hub/backbones.py; facebookresearch/moco-v3 vits.py, CONFIG.md; bytedance/ibot
README.
"""

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, get_args

from maskdistill.runtime.errors import MaskDistillError

Positions = Literal["table", "table_antialiased", "rope", "timm"]
Layout = Literal["self", "dino", "ibot", "mocov3", "dinov2", "dinov3"]

ResNetName = Literal["resnet50", "resnet_tiny"]
"""ResNets that maskdistill.backbones.resnet builds."""
GROUP = "maskdistill.backbones"
"""Entry-point group for vision transformers of other packages: name -> a :class:`Backbone`."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Official:
    """The original authors' checkpoint.

    Attributes:
        file: name under which it is stored.
        licence: of the weights.
        page: web page that describes licence and download.
        url: None if the licence must be accepted by hand first.
        sha256: of the file, in full or only the leading digits that PyTorch Hub puts into a file's name; None
            if neither the authors nor several independent users publish it. An MD5 is written with ``md5:``
            in front.
    """

    file: str
    licence: str
    page: str
    url: str | None
    sha256: str | None = None


@dataclass(frozen=True)
class Backbone:
    """Structure of a vision transformer and how its original checkpoint is read.

    Attributes:
        timm_model: timm's model of the same structure; None if timm has none.
        image_size: side in pixels for which the positional table was made.
        registers: tokens between CLS and patches (Darcet et al. 2024), "storage tokens" in DINOv3.
        positions: ``table``: learned or fixed table, resampled bicubic by scale factor (R + 0.1) / R0 [method
            §1.5]; ``table_antialiased``: resampled by size with antialiasing (DINOv2 with registers);
            ``rope``: rotation of queries and keys in every block, no table (DINOv3); ``timm``: as timm has it
            (:mod:`maskdistill.backbones.timm_names`).
        layer_scale: residual branches are scaled per channel.
        norm_eps: of every LayerNorm.
        conv_stem: patches are embedded by stride-2 3x3 convolutions instead of one linear map
            (Xiao et al. 2021, "Early convolutions help transformers see better").
        layout: key names of its checkpoints (:mod:`maskdistill.backbones.checkpoints`).
        mean, std: mean and standard deviation of the RGB values in [0, 1] that it was trained on.
        official: None for networks trained by this project.
    """

    timm_model: str | None
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    image_size: int = 224
    registers: int = 0
    positions: Positions = "table"
    layer_scale: bool = False
    norm_eps: float = 1e-6
    conv_stem: bool = False
    layout: Layout = "self"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    official: Official | None = None

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patches: CLS and registers."""
        return 1 + self.registers


_META = "https://dl.fbaipublicfiles.com"


def _dino(
    timm_model: str, patch: int, dim: int, heads: int, name: str, sha256: str | None = None
) -> Backbone:
    url = f"{_META}/dino/{name}_pretrain/{name}_pretrain.pth"
    page = "https://github.com/facebookresearch/dino"
    official = Official(f"{name}_pretrain.pth", "Apache-2.0", page, url, sha256)
    return Backbone(timm_model, patch, dim, 12, heads, layout="dino", official=official)


def _dinov2(timm_model: str, dim: int, heads: int, name: str, registers: int, sha256: str) -> Backbone:
    file = f"dinov2_{name}_reg{registers}_pretrain.pth" if registers else f"dinov2_{name}_pretrain.pth"
    page = "https://github.com/facebookresearch/dinov2"
    return Backbone(
        timm_model, 14, dim, 12, heads,
        image_size=518, registers=registers, positions="table_antialiased" if registers else "table",
        layer_scale=True, layout="dinov2",
        official=Official(file, "Apache-2.0", page, f"{_META}/dinov2/dinov2_{name}/{file}", sha256),
    )  # fmt: skip


def _dinov3(timm_model: str, dim: int, heads: int, name: str, sha256: str) -> Backbone:
    file = f"dinov3_{name}_pretrain_lvd1689m-{sha256}.pth"
    page = "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/"
    return Backbone(
        timm_model, 16, dim, 12, heads,
        registers=4, positions="rope", layer_scale=True, norm_eps=1e-5, layout="dinov3",
        official=Official(file, "DINOv3 License", page, None, sha256),
    )  # fmt: skip


BACKBONES: dict[str, Backbone] = {
    # Paper: DINO ViT-S/16 [P §4.1]; the released code embeds with ViT-S/8.
    "dino_vits16": _dino("vit_small_patch16_224", 16, 384, 6, "dino_deitsmall16"),
    "dino_vits8": _dino("vit_small_patch8_224", 8, 384, 6, "dino_deitsmall8"),
    "dino_vitb16": _dino(
        "vit_base_patch16_224", 16, 768, 12, "dino_vitbase16",
        "bf34ad0f424b9029b593e8dc3ed553bf26e88bcba0d32bf3e62a6209cb64c85e",
    ),
    "dino_vitb8": _dino("vit_base_patch8_224", 8, 768, 12, "dino_vitbase8"),
    "ibot_vits16": Backbone(
        "vit_small_patch16_224", 16, 384, 12, 6,
        layout="ibot",
        official=Official(
            "ibot_vits16_checkpoint_teacher.pth", "Apache-2.0", "https://github.com/bytedance/ibot",
            "https://lf3-nlp-opensource.bytetos.com/obj/nlp-opensource/archive/2022/ibot/vits_16/checkpoint_teacher.pth",
        ),
    ),
    # 12 heads of 32, unlike the other ViT-S; its positional table is the fixed 2-D sine-cosine one.
    "mocov3_vits16": Backbone(
        "vit_small_patch16_224", 16, 384, 12, 12,
        layout="mocov3",
        official=Official(
            "mocov3_vit-s-300ep.pth.tar", "CC-BY-NC-4.0 (no commercial use)",
            "https://github.com/facebookresearch/moco-v3", f"{_META}/moco-v3/vit-s-300ep/vit-s-300ep.pth.tar",
        ),
    ),
    "dinov2_vits14": _dinov2(
        "vit_small_patch14_dinov2", 384, 6, "vits14", 0,
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    ),
    "dinov2_vitb14": _dinov2(
        "vit_base_patch14_dinov2", 768, 12, "vitb14", 0,
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    "dinov2_vits14_reg4": _dinov2(
        "vit_small_patch14_reg4_dinov2", 384, 6, "vits14", 4,
        "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb",
    ),
    "dinov2_vitb14_reg4": _dinov2(
        "vit_base_patch14_reg4_dinov2", 768, 12, "vitb14", 4,
        "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71",
    ),
    "dinov3_vits16": _dinov3("vit_small_patch16_dinov3_qkvb", 384, 6, "vits16", "08c60483"),
    "dinov3_vitb16": _dinov3("vit_base_patch16_dinov3_qkvb", 768, 12, "vitb16", "73cec8be"),
    # Trained by this project (weights: pretrain, or a file from config/weights); DINO's structure.
    "vit_small_patch16": Backbone("vit_small_patch16_224", 16, 384, 12, 6),
    "vit_small_patch8": Backbone("vit_small_patch8_224", 8, 384, 12, 6),
    "vit_base_patch16": Backbone("vit_base_patch16_224", 16, 768, 12, 12),
    "vit_base_patch8": Backbone("vit_base_patch8_224", 8, 768, 12, 12),
    "vit_micro_patch8": Backbone(None, 8, 128, 4, 4, image_size=64, conv_stem=True),
}  # fmt: skip


def _moco(file: str, md5: str) -> Official:
    name, page = f"{file}_pretrain.pth.tar", "https://github.com/facebookresearch/moco"
    licence = "CC-BY-NC-4.0 (no commercial use)"
    return Official(name, licence, page, f"{_META}/moco/moco_checkpoints/{file}/{name}", f"md5:{md5}")


RESNET_CHECKPOINTS: dict[str, Official] = {
    # The paper uses MoCo. For its successors, the authors' README gives the first digits of the MD5 [method
    # §0.4, M1].
    "moco_v2_800ep": _moco("moco_v2_800ep", "a04e12f8"),
    "moco_v2_200ep": _moco("moco_v2_200ep", "59fd9945"),
    "moco_v1_200ep": _moco("moco_v1_200ep", "b251726a"),
    # DINO's hubconf.py, dino_resnet50; nobody publishes a checksum.
    "dino_resnet50": Official(
        "dino_resnet50_pretrain.pth", "Apache-2.0", "https://github.com/facebookresearch/dino",
        f"{_META}/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
    ),
}  # fmt: skip
"""ResNet-50 checkpoints that a detector or a segmenter may start from, by the name that ``weights`` takes."""
RESNET50_PARAMETERS = 23_508_032
"""Parameters of the trunk, without a classifier."""


def _installed() -> tuple[dict[str, Backbone], dict[str, str]]:
    """Entries of installed packages; and for those that cannot be used, name -> reason."""
    found: dict[str, Backbone] = {}
    broken: dict[str, str] = {}
    for entry in entry_points(group=GROUP):
        try:
            value = entry.load()
        except Exception as error:  # another package may raise anything when it is imported
            broken[entry.name] = f"{entry.value} cannot be imported ({type(error).__name__}: {error})"
            continue
        if not isinstance(value, Backbone):
            broken[entry.name] = f"{entry.value} is no maskdistill.backbones.registry.Backbone"
        elif entry.name in BACKBONES or entry.name in found:
            broken[entry.name] = f"{entry.value} has a name that is taken; rename it"
        else:
            found[entry.name] = value
    return found, broken


def find_backbone(arch: str) -> Backbone:
    """The entry of a name.

    Raises:
        MaskDistillError: listing the known names, or saying what is wrong with an installed package's entry.
    """
    if arch in BROKEN:
        raise MaskDistillError(f"backbone {arch!r}: {BROKEN[arch]}; repair or uninstall its package")
    if arch not in BACKBONES:
        raise MaskDistillError(f"unknown backbone {arch!r}; take one of {', '.join(BACKBONES)}")
    return BACKBONES[arch]


def find_official(arch: str) -> Official:
    """The original checkpoint of a name.

    Raises:
        MaskDistillError: unknown name, or a network that only this project trains.
    """
    official = find_backbone(arch).official
    if official is None:
        known = ", ".join(name for name, entry in BACKBONES.items() if entry.official)
        raise MaskDistillError(
            f"weights 'official': {arch} has no official checkpoint; give a file, or 'pretrain', or take one "
            f"of {known}"
        )
    return official


def find_checkpoint(name: str) -> Official:
    """The official checkpoint of a ResNet's or a backbone's name.

    Raises:
        MaskDistillError: as :func:`find_official`.
    """
    return RESNET_CHECKPOINTS[name] if name in RESNET_CHECKPOINTS else find_official(name)


def weights_bytes(name: str) -> int:
    """Approximate size of the official checkpoint of a vision transformer or a ResNet-50: its parameters in
    float32.
    """
    if name in RESNET_CHECKPOINTS:
        return 4 * RESNET50_PARAMETERS
    net = find_backbone(name)
    dim, patches = net.embed_dim, (net.image_size // net.patch_size) ** 2
    blocks = net.depth * (12 * dim**2 + 13 * dim)
    return 4 * (blocks + (3 * net.patch_size**2 + 1) * dim + (patches + 2) * dim + 2 * dim)


def how_to_get(name: str, path: str) -> str:
    """One sentence that says how to get a checkpoint by hand and put it at ``path``: URL, size and
    checksum.
    """
    official = find_checkpoint(name)
    where = f"and put it at {path} (about {weights_bytes(name) / 1e6:.0f} MB; {_sum_words(official.sha256)})"
    if official.url is None:
        return f"accept the {official.licence} at {official.page}, fetch {official.file} {where}"
    return f"fetch {official.url} on a machine with a network {where}"


def _sum_words(known: str | None) -> str:
    """A known checksum in words."""
    if known is None:
        return "no checksum of it is published"
    kind, _, digits = known.rpartition(":")
    name = "MD5" if kind == "md5" else "SHA-256"
    return f"{name} {digits}" if len(digits) in (32, 64) else f"its {name} begins with {digits}"


_FOUND, BROKEN = _installed()
"""``BROKEN``: names of installed packages' entries that cannot be used -> why."""
BACKBONES |= _FOUND
if TYPE_CHECKING:
    StudentName = str  # networks that a detector or a segmenter may be built on
else:
    StudentName = Literal[(*get_args(ResNetName), *BACKBONES)]

"""Views that self-supervised training compares. No label and no mask enters here."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from maskdistill.config import PretrainConfig
from maskdistill.data.images import load_rgb
from maskdistill.data.scenes import view_pair
from maskdistill.pretrain.cutouts import crop_pair, cutout_pair

Views = list[Tensor]


def photometric(blur: float, solarize: float, config: PretrainConfig) -> v2.Transform:
    """Colour augmentation of one view (Grill et al. 2020, table 6; DINO's too).

    Args:
        blur, solarize: probabilities at strength 1.
        config: ``photometric`` scales brightness, contrast, saturation, blur and solarisation.
    """
    strength = config.photometric
    jitter = v2.ColorJitter(0.4 * strength, 0.4 * strength, 0.2 * strength, config.hue)
    return v2.Compose(
        [
            v2.RandomApply([jitter], p=0.8),
            v2.RandomGrayscale(p=config.grayscale),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=blur * strength),
            v2.RandomSolarize(threshold=128, p=solarize * strength),
        ]
    )


class ViewDataset(Dataset[Views]):
    """Global and local views of one draw, uint8 (3, size, size) each.

    For objective ``distill`` both are the same crop, once re-coloured and once unchanged.

    With probability ``exchange_share`` a draw is a generated pair (the same objects over two
    backgrounds, or with ``cutout_share`` and ``crop_share`` one object twice, with two textures, cut out
    or in its surroundings); otherwise two random crops of one photograph. Addressed by ``(index, draw)`` of
    :class:`~maskdistill.training.order.StepSampler`; equal draws give equal views.

    Args:
        files: photographs; may be empty when ``exchange_share`` is 1.
        config: sizes and shares.
    """

    def __init__(self, files: Sequence[str | Path], config: PretrainConfig) -> None:
        if not files and config.exchange_share < 1:
            raise ValueError("no photographs given and exchange_share is below 1")
        self.files, self.config = list(files), config
        bicubic = InterpolationMode.BICUBIC
        crop = (config.min_crop, 1.0)
        self.crop = v2.RandomResizedCrop(config.size, scale=crop, interpolation=bicubic, antialias=True)
        self.flip = v2.RandomHorizontalFlip()
        self.first, self.second = (
            photometric(blur, solarize, config) for blur, solarize in ((0.5, 0.0), (0.1, 0.2))
        )
        self.local = v2.Compose(
            [
                v2.RandomResizedCrop(
                    config.local_size, (0.1, config.min_crop), interpolation=bicubic, antialias=True
                ),
                v2.RandomHorizontalFlip(),
                photometric(0.5, 0.0, config),
            ]
        )
        self.pairs: dict[int, tuple[Tensor, Tensor]] = {}

    def pair(self, number: int) -> tuple[Tensor, Tensor]:
        """Generated pair ``number``, which is below ``exchange_pairs``: rendered once, then kept."""
        if number not in self.pairs:
            self.pairs[number] = self._render(number)
        return self.pairs[number]

    def _render(self, number: int) -> tuple[Tensor, Tensor]:
        config = self.config
        rng = np.random.default_rng([config.scene_seed, number, 2])
        if rng.random() < config.cutout_share:
            return cutout_pair(rng, config.scene_size, config.scene_difficulty, config.size)
        if rng.random() < config.crop_share:
            return crop_pair(rng, config.scene_size, config.scene_difficulty, config.size)
        first, second = view_pair(config.scene_seed, number, config.scene_size, config.scene_difficulty)
        return torch.from_numpy(first).permute(2, 0, 1), torch.from_numpy(second).permute(2, 0, 1)

    def __len__(self) -> int:
        return max(1, len(self.files))

    def sources(self, index: int, draw: int) -> tuple[Tensor, Tensor]:
        """Two pictures to crop from, uint8 (3, H, W): a generated pair, or one photograph twice."""
        config = self.config
        rng = np.random.default_rng([config.seed, draw, 7])
        if rng.random() < config.exchange_share:
            return self.pair(draw % config.exchange_pairs)
        photo = load_rgb(self.files[index])
        limit = 2 * config.size
        if min(photo.size) > limit:
            scale = limit / min(photo.size)
            photo = photo.resize(
                (max(1, round(photo.width * scale)), max(1, round(photo.height * scale))),
                Image.Resampling.BILINEAR,
            )
        tensor = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
        return tensor, tensor

    def __getitem__(self, item: tuple[int, int]) -> Views:
        index, draw = item
        first, second = self.sources(index, draw)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed * 1_000_003 + draw)
            if self.config.objective == "distill":
                plain = self.flip(self.crop(first))
                return [self.first(plain), plain]
            views = [self.first(self.flip(self.crop(first))), self.second(self.flip(self.crop(second)))]
            if self.config.objective == "dino":
                views += [self.local((first, second)[i % 2]) for i in range(self.config.local_views)]
        return views

"""Training views as masks are clustered: rough masks, another surface on the same outline, flat ground around
it.
"""

from dataclasses import fields

import numpy as np
import torch
from scipy import ndimage

from maskdistill.backbones.vit import IMAGENET_MEAN
from maskdistill.config import PretrainConfig
from maskdistill.data.scenes import another_surface, generate_scene, make_object
from maskdistill.pretrain.cutouts import crop_pair, cutout_pair, rough_mask
from maskdistill.pretrain.views import ViewDataset

GROUND = torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255


def test_another_surface_changes_texture_and_colours_alone() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        spec = make_object(rng, 0.3)
        other = another_surface(rng, spec)
        changed = {
            field.name
            for field in fields(spec)
            if getattr(other, field.name) is not getattr(spec, field.name)
        }
        assert changed - {"texture"} == {"texture_seed", "period", "colors"}  # a texture may be drawn twice
        assert other.parts is spec.parts and not np.intersect1d(other.colors, spec.colors).size


def test_a_rough_mask_keeps_to_the_object() -> None:
    overlaps = []
    for index in range(40):
        mask = generate_scene(5, index, 96, 0.3).masks[0]
        rough = rough_mask(np.random.default_rng(index), mask)
        assert rough.shape == mask.shape and rough.any()
        assert ndimage.distance_transform_edt(~mask)[rough].max() <= 2 * 7 * np.sqrt(
            2
        )  # a rim of one cell more
        overlaps.append((rough & mask).sum() / (rough | mask).sum())
    assert 0.5 < np.mean(overlaps) < 0.85 and max(overlaps) < 1  # 0.58 those of the demo's masks stage


def test_a_pair_lies_on_flat_ground_in_the_middle_of_a_square() -> None:
    spread = []
    for number in range(8):
        for view in cutout_pair(np.random.default_rng(number), 96, 0.3, 48):
            assert view.dtype == torch.uint8 and view.shape == (3, 48, 48)
            flat = ((view - GROUND).abs() <= 1).all(dim=0)
            assert flat[:2].all() and flat[-2:].all() and flat[:, :2].all() and flat[:, -2:].all()
            rows, columns = (np.flatnonzero(~flat.all(dim=dim).numpy()) for dim in (1, 0))
            assert (
                max(np.ptp(rows), np.ptp(columns)) + 1 >= 48 / 1.5 - 3
            )  # the longer side, at the widest margin
            spread.append(float(flat.float().mean()))
    assert 0.3 < np.mean(spread) < 0.9


def test_a_crop_shows_the_object_and_what_lies_around_it() -> None:
    for number in range(4):
        first, second = crop_pair(np.random.default_rng(number), 96, 0.3, 40)
        for view in (first, second):
            assert view.dtype == torch.uint8 and view.shape == (3, 40, 40)
            assert ((view - GROUND).abs() <= 1).all(dim=0).float().mean() < 0.1, "no flat ground"
        assert (first.float() - second.float()).abs().mean() > 10
        assert all(map(torch.equal, crop_pair(np.random.default_rng(number), 96, 0.3, 40), (first, second)))


def test_pairs_are_drawn_at_the_configured_share() -> None:
    settings = {
        "exchange_share": 1.0,
        "size": 32,
        "scene_size": 64,
        "exchange_pairs": 40,
        "scene_difficulty": 0.3,
    }

    def of_one_object(share: float, kind: str = "cutout_share") -> list[bool]:
        dataset = ViewDataset([], PretrainConfig(objective="contrast", **{kind: share}, **settings))
        pairs = [dataset.pair(number) for number in range(12)]
        again = ViewDataset([], dataset.config)
        assert all(map(torch.equal, again.pair(3), pairs[3]))
        return [pair[0].shape[-1] == 32 for pair in pairs]

    assert of_one_object(0.0) == [False] * 12 and of_one_object(1.0) == [True] * 12
    assert of_one_object(1.0, "crop_share") == [True] * 12
    assert 0 < sum(of_one_object(0.5)) < 12

"""The pictures of the report, composed from photos, masks and label maps."""

import numpy as np

from maskdistill.cli.report_material import Material
from maskdistill.cli.report_strips import PERCENT, TILE, Strips
from maskdistill.formats import rle
from maskdistill.report import masks, montage, page, tau_explorer, verdict
from maskdistill.report.html import Context, Picture, css, missing, picture
from maskdistill.report.montage import Color, Rgb
from maskdistill.report.rated import Rated
from maskdistill.report.rounds import Learnt

PAIR, THUMB, LARGE, SHARPENED = 224, 120, 480, 6
ACCENT: Color = (58, 110, 165)


def compose(material: Material, strips: Strips) -> page.Pictures:
    """All pictures of the page."""
    run, colors = material.run, material.colors["masks"]
    examples = [strips.strip(number) for number in run.images.examples]
    shown = SHARPENED if material.folders["prediction + CRF"] else 0
    sharpened = [strips.sharpened_strip(number) for number in run.images.examples[:shown]]
    return page.Pictures(
        pairs=pairs(material),
        clusters=clusters(material),
        cluster_colors=[colors[label] for label in range(1, material.count + 1)],
        strips=examples,
        sharpened=sharpened,
        legend=strips.legend(),  # of the colours used so far
        samples=[sample(material, number) for number in run.images.examples],
        verdict=trust_strips(material),
        surest=[overlay(material, item) for item in run.candidates.surest],
        least=[overlay(material, item) for item in run.candidates.least],
        rounds=round_strips(material),
    )


def overlay(material: Material, item: Rated) -> Context:
    """A photograph with its objects in the colours of their categories."""
    photo = montage.fit(material.photo(item.image_id), LARGE)
    colors = [
        material.colors["detector"].get(found["category_id"], montage.NEUTRAL) for found in item.objects
    ]
    shapes = [montage.fit_mask(rle.decode(found["segmentation"]), photo.shape[:2]) for found in item.objects]
    named = {found["category_id"] - 1: css(color) for found, color in zip(item.objects, colors, strict=True)}
    categories = [
        (cluster, material.run.cluster_name(cluster), color) for cluster, color in sorted(named.items())
    ]
    names = ", ".join(name for _, name, _ in categories)
    alt = f"Objects of {material.key(item.image_id)}: {names}"
    return {
        "picture": picture(montage.overlay_tile(photo, shapes, colors), alt, quality=78),
        "score": f"{item.score:.2f}",
        "sure": item.sure,
        "count": len(item.objects),
        "key": material.key(item.image_id),
        "categories": categories,
    }


def trust_strips(material: Material) -> list[Context]:
    """The masks of the pictures that the verdict shows, each found in another way."""
    strips = []
    for item in material.run.trust["pictures"] if material.run.trust else []:
        photo = montage.fit(material.photo(item["image_id"]), PAIR)
        tiles = [picture(photo, f"Photo {item['key']}", "photo")]
        for name, title in verdict.LOOKS.items():
            if name not in item["frames"]:
                continue
            mask = montage.fit_mask(rle.decode(item["frames"][name]), photo.shape[:2])
            if mask.any():
                tile = montage.mask_tile(photo, mask, ACCENT)
                tiles.append(picture(tile, f"{item['key']}, {title}", title))
            else:
                tiles.append(missing(photo, title, "none"))
        strips.append({"key": f"{item['key']}: agreement {item['agreement']:.2f}", "tiles": tiles})
    return strips


def round_strips(material: Material) -> list[Context]:
    """What the detector of each round of self-training learnt of some training images."""
    rounds, strips = material.run.rounds, []
    for number in sorted({number for learnt in rounds for number in learnt.examples}):
        photo, key = montage.fit(material.photo(number), PAIR), material.key(number)
        tiles = [picture(photo, f"Photo {key}", "photo")]
        tiles += [learnt_tile(material, learnt, number, photo) for learnt in rounds]
        strips.append({"key": key, "tiles": tiles})
    return strips


def learnt_tile(material: Material, learnt: Learnt, image_id: int, photo: Rgb) -> Picture:
    """The masks of an image that a detector learnt: new ones tinted, those of the round before outlined."""
    shown, found = learnt.examples.get(image_id, ([], 0))
    if not shown:
        return missing(photo, learnt.name, "no mask")
    fresh = found if learnt.number else len(shown)
    shapes = [montage.fit_mask(rle.decode(one["segmentation"]), photo.shape[:2]) for one in shown]
    colors = [material.colors["detector"].get(one["category_id"], montage.NEUTRAL) for one in shown]
    tile = montage.overlay_tile(photo, shapes[fresh:], colors[fresh:], alpha=0)
    tile = montage.overlay_tile(tile, shapes[:fresh], colors[:fresh], alpha=0.5)
    note = f"{found} found, {len(shown) - found} left" if learnt.number else f"{len(shown)} learnt"
    return picture(tile, f"Masks of {material.key(image_id)}, {learnt.name}: {note}", learnt.name, note)


def pairs(material: Material) -> list[tuple[Picture, Picture]]:
    """Photo and mask of images at even steps through all masks sorted by coverage."""
    found = []
    for where in material.run.masks.spread:
        record = material.run.masks.records[where]
        photo = montage.fit(material.photo(record["image_id"]), PAIR)
        mask = montage.fit_mask(rle.decode(record["segmentation"]), photo.shape[:2])
        color = material.colors["masks"].get(material.run.masks.labels.get(where, 0), montage.NEUTRAL)
        key, share = material.key(record["image_id"]), f"{100 * record['coverage']:.1f}{PERCENT}"
        left = picture(photo, f"Photo {key}", note=key)
        right = picture(
            montage.mask_tile(photo, mask, color), f"Mask of {key}, {share} of the image", note=share
        )
        found.append((left, right))
    return found


def clusters(material: Material) -> list[Context]:
    """For each cluster its name, size, colour, matched class and the objects nearest and farthest."""
    matching = material.run.matching("masks")
    strips = []
    for cluster, members in enumerate(material.run.members):
        color = material.colors["masks"][1 + cluster]
        strips.append(
            {
                "cluster": cluster,
                "name": material.run.cluster_name(cluster),
                "given": material.run.names.get(cluster, ""),
                "size": f"{material.run.clusters['sizes'][cluster]} masks",
                "color": css(color),
                "matched": material.class_name(matching.get(1 + cluster, -1)) if matching else "",
                "nearest": [thumb(material, item, color) for item in members.nearest],
                "farthest": [thumb(material, item, color) for item in members.farthest],
            }
        )
    return strips


def thumb(material: Material, item: masks.Member, color: Color) -> Picture:
    """The masked object of one member of a cluster."""
    record = material.run.masks.records[item.shard, item.mask_index]
    photo = np.asarray(material.photo(record["image_id"]))
    tile = montage.object_tile(photo, rle.decode(record["segmentation"]), color, THUMB)
    return picture(tile, f"Object of {material.key(record['image_id'])}, distance {item.distance:.3g}")


def sample(material: Material, image_id: int) -> tuple[Picture, tau_explorer.Sample]:
    """One image of the threshold explorer: the photo in grey, and its candidates to be drawn on it."""
    size, key = material.images[image_id], material.key(image_id)
    photo = montage.subdue(montage.fit(material.photo(image_id), TILE)).round().astype(np.uint8)
    drawn = tau_explorer.sample(
        material.run.candidates.by_image.get(image_id, []),
        (size.height, size.width),
        photo.shape[:2],
        material.run.config.pseudo_labels.overlap,
        material.colors["detector"],
        montage.NEUTRAL,
    )
    return picture(photo, f"Pseudo-label of {key} at the chosen threshold", note=key, quality=70), drawn

"""The detector by torchvision's parts and by detectron2, with the same weights on the same input: how far
apart?

    python tests/detectron2_parity.py

Prints a Markdown table; tests/test_detectron2_parity.py asserts each of its lines. Needs detectron2.
"""

import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

import detectron2
import torch
import torchvision
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.structures import ImageList as TheirImages
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from maskdistill.backbones.resnet import build_resnet
from maskdistill.config import DetectorConfig
from maskdistill.detector.detectron2_names import to_detectron2
from maskdistill.detector.engines import portable_state, with_engine
from maskdistill.detector.model import build_detector, norm_parameter_groups

CLUSTERS = 5
# The method's settings but for the sizes of images and samples, so that two CPU cores do it in seconds.
CONFIG = DetectorConfig(
    engine="detectron2", weights="random", min_size_train=[128, 160], min_size_test=144, max_size=224,
    rpn_batch=64,
    roi_batch=48, rpn_pre_nms=(600, 300), rpn_post_nms=(100, 60), max_dets=20,
)  # fmt: skip


class Figure(NamedTuple):
    """One comparison: the largest difference found, and the largest that is accepted."""

    what: str
    difference: float
    tolerance: float
    unit: str


def distinctive_detector() -> nn.Module:
    """A detector in which every value matters: norms that do something, heads that are sure of something."""
    torch.manual_seed(0)
    resnet = build_resnet("resnet50")
    norms = [module for module in resnet.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
        norm.momentum = 1.0
    # Running statistics that fit the images, else activations explode in eval mode.
    with torch.no_grad():
        resnet(
            torch.stack([nn.functional.interpolate(image[None], (160, 192))[0] for image in pictures()[0]])
            * 4
            - 2
        )
    for norm in norms:
        norm.momentum = 0.1
    detector = build_detector(CONFIG, CLUSTERS, resnet)
    for name, value in detector.named_parameters():
        if name.startswith(
            ("rpn.head", "roi_heads.box_predictor", "roi_heads.mask_predictor.mask_fcn_logits")
        ):
            nn.init.normal_(value, std=0.005 if "bbox_pred" in name else 0.02)
    return detector


def pictures() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of odd sizes, float in 0..1, and their three objects: a box each, half of it filled."""
    torch.manual_seed(1)
    sizes = ((150, 203), (222, 170))
    images = [
        nn.functional.interpolate(torch.rand(1, 3, 9, 11), size, mode="bicubic")[0].clamp(0, 1)
        for size in sizes
    ]
    boxes = [torch.tensor([[20.0, 30, 120, 110], [100, 10, 180, 140]]), torch.tensor([[15.5, 40, 130, 200]])]
    labels = [torch.tensor([2, 5]), torch.tensor([1])]
    targets = []
    for size, box, label in zip(sizes, boxes, labels, strict=True):
        masks = torch.zeros((len(box), *size), dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, box.int().tolist(), strict=True):
            mask[y1:y2, x1 : (x1 + x2) // 2] = 1
        targets.append({"boxes": box, "labels": label, "masks": masks})
    return images, targets


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the largest absolute value; infinite where shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference; infinite where shapes differ."""
    return float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")


def instances(shape: tuple[int, int], target: dict[str, Tensor]) -> Instances:
    """A target as detectron2 takes it."""
    masks = BitMasks(target["masks"])
    return Instances(shape, gt_boxes=Boxes(target["boxes"]), gt_classes=target["labels"] - 1, gt_masks=masks)


def measure() -> Iterator[Figure]:
    """All comparisons, part by part and then as a whole."""
    own: Any = distinctive_detector()
    wrapped: Any = with_engine(own, CONFIG, CLUSTERS)
    their: Any = wrapped.model
    yield from _parameters(own, wrapped)
    images, targets = pictures()

    own.eval(), wrapped.eval()
    with torch.inference_mode():
        yield from _parts(own, their, images)
        yield from _detections(own(images), wrapped(images))

    own.train(), wrapped.train()
    yield from _losses_of_the_same_regions(own, their, images, targets)
    yield from _one_step(own, wrapped, images, targets)


def _parameters(own: nn.Module, wrapped: Any) -> Iterator[Figure]:
    counts = [sum(p.numel() for p in model.parameters()) for model in (own, wrapped)]
    yield Figure(f"parameters: {counts[0]:,} and {counts[1]:,}", abs(counts[0] - counts[1]), 0, "count")
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (own, wrapped)]
    yield Figure(f"trainable: {counts[0]:,} and {counts[1]:,}", abs(counts[0] - counts[1]), 0, "count")
    names, their_names = to_detectron2(own.state_dict()).keys(), wrapped.model.state_dict().keys()
    yield Figure(f"names without a partner, of {len(names)}", len(names ^ their_names), 0, "count")
    back = portable_state(wrapped)
    changed = sum(not torch.equal(value, back[name]) for name, value in own.state_dict().items())
    yield Figure("tensors changed there and back", changed, 0, "count")


def _parts(own: Any, their: Any, images: list[Tensor]) -> Iterator[Figure]:
    """Each part on the same input."""
    batch, _ = own.transform(list(images))
    their_batch = TheirImages(batch.tensors, batch.image_sizes)
    maps, their_maps = own.backbone(batch.tensors), their.backbone(batch.tensors)["res4"]
    yield Figure("features of res4", gap(maps, their_maps), 1e-5, "relative")
    maps = {"0": maps, "res4": maps}

    (anchors, *_), their_anchors = (
        own.rpn.anchor_generator(batch, [maps["0"]]),
        their.proposal_generator.anchor_generator,
    )
    yield Figure("anchors", distance(anchors, their_anchors([maps["0"]])[0].tensor), 1e-4, "pixels")
    head, their_head = own.rpn.head([maps["0"]]), their.proposal_generator.rpn_head([maps["0"]])
    for name, (ours,), (theirs,) in zip(("RPN logits", "RPN deltas"), head, their_head, strict=True):
        yield Figure(name, gap(ours, theirs), 1e-5, "relative")
    proposals, _ = own.rpn(batch, {"0": maps["0"]})
    their_proposals, _ = their.proposal_generator(their_batch, maps, None)
    for ours, theirs in zip(proposals, their_proposals, strict=True):
        yield Figure(
            f"proposals ({len(ours)} of an image)",
            distance(ours, theirs.proposal_boxes.tensor),
            1e-3,
            "pixels",
        )

    heads, their_heads = own.roi_heads, their.roi_heads
    pooled = heads.box_features({"0": maps["0"]}, proposals)
    their_pooled = their_heads._shared_roi_transform([maps["res4"]], [Boxes(boxes) for boxes in proposals])
    yield Figure("region features after res5 and the extra norm", gap(pooled, their_pooled), 1e-5, "relative")
    (logits, deltas), (their_logits, their_deltas) = (
        part.box_predictor(pooled.mean(dim=(2, 3))) for part in (heads, their_heads)
    )
    yield Figure("class logits", gap(logits.roll(-1, 1), their_logits), 1e-5, "relative")
    yield Figure("box deltas", gap(deltas[:, 4:], their_deltas), 1e-5, "relative")
    yield Figure(
        "mask logits",
        gap(heads.mask_predictor(pooled), their_heads.mask_head.layers(pooled)),
        1e-5,
        "relative",
    )


def _detections(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> Iterator[Figure]:
    """From the images on."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
        image = f"image {number}, {len(one['scores'])} detections"
        yield Figure(
            f"{image}: labels that differ", int((one["labels"] != other["labels"]).sum()), 0, "count"
        )
        yield Figure(f"{image}: scores", distance(one["scores"], other["scores"]), 1e-5, "probability")
        yield Figure(f"{image}: boxes", distance(one["boxes"], other["boxes"]), 1e-3, "pixels")
        share = float((one["masks"] != other["masks"]).sum() / one["masks"].sum())
        yield Figure(f"{image}: mask pixels that differ", share, 1e-4, "share")


def _losses_of_the_same_regions(
    own: Any, their: Any, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> Iterator[Figure]:
    torch.manual_seed(2)
    batch, resized = own.transform(list(images), targets)
    their_batch = TheirImages(batch.tensors, batch.image_sizes)
    truth = [instances(shape, target) for shape, target in zip(batch.image_sizes, resized, strict=True)]
    with torch.no_grad(), EventStorage():
        maps = own.backbone(batch.tensors)
        torch.manual_seed(3)
        proposals, losses = own.rpn(ImageList(batch.tensors, batch.image_sizes), {"0": maps}, resized)
        torch.manual_seed(3)
        _, their_losses = their.proposal_generator(their_batch, {"res4": maps}, truth)
        given = [
            Instances(shape, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))
            for shape, boxes in zip(batch.image_sizes, proposals, strict=True)
        ]
        torch.manual_seed(4)
        losses |= own.roi_heads({"0": maps}, proposals, batch.image_sizes, resized)[1]
        torch.manual_seed(4)
        their_losses |= their.roi_heads(their_batch, {"res4": maps}, given, truth)[1]
    pairs = {
        "loss_objectness": "loss_rpn_cls", "loss_rpn_box_reg": "loss_rpn_loc", "loss_classifier": "loss_cls",
        "loss_box_reg": "loss_box_reg", "loss_mask": "loss_mask",
    }  # fmt: skip
    for name, their_name in pairs.items():
        ours, theirs = losses[name], their_losses[their_name]
        yield Figure(f"{name} of the same regions: {float(ours):.6f}", gap(ours, theirs), 1e-5, "relative")


def _one_step(
    own: Any, wrapped: Any, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> Iterator[Figure]:
    """Losses, gradients and weights of a training step from the images on, everything drawn from the same
    seed.
    """
    wrapped.model.load_state_dict(to_detectron2(own.state_dict()))
    totals = []
    for model in (own, wrapped):
        torch.manual_seed(5)
        optimizer = torch.optim.SGD(norm_parameter_groups(model, 1e-4), 0.02, 0.9)
        total = torch.stack(list(model(images, targets).values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        totals.append(total.detach())
    yield Figure(
        f"total loss of a step from the images on: {float(totals[0]):.6f}", gap(*totals), 1e-5, "relative"
    )
    gradients = to_detectron2({name: p.grad for name, p in own.named_parameters() if p.grad is not None})
    theirs = {name: p.grad for name, p in wrapped.model.named_parameters() if p.grad is not None}
    yield Figure("gradients without a partner", len(gradients.keys() ^ theirs.keys()), 0, "count")
    squares = sum(float((gradients[name] - value).square().sum()) for name, value in theirs.items())
    norm = sum(float(value.square().sum()) for value in theirs.values())
    yield Figure("all gradients: norm of the difference", (squares / norm) ** 0.5, 1e-4, "relative")
    moved = to_detectron2(own.state_dict())
    worst = max(gap(moved[name].float(), value.float()) for name, value in wrapped.model.state_dict().items())
    yield Figure("worst tensor after the step, running statistics included", worst, 1e-4, "relative")


def main() -> None:
    """Print versions and the table."""
    torch.set_num_threads(1)
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, detectron2 {detectron2.__version__}, CPU, float32\n"
    )
    print("| compared | difference | accepted | unit |\n|---|---|---|---|")
    for figure in measure():
        print(f"| {figure.what} | {figure.difference:.2g} | {figure.tolerance:g} | {figure.unit} |")


if __name__ == "__main__":
    main()

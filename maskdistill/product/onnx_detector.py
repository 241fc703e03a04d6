"""The detector as ONNX: from pictures of any size to boxes, categories, scores and small masks inside the
boxes.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from maskdistill.backbones.vit import normalize
from maskdistill.config import DetectorConfig
from maskdistill.product.onnx_segmenter import OPSET, save

OUTPUTS = ("boxes", "labels", "scores", "masks")
PREFIX = "net/"
WRAPPER = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
objects (uint8[batch, height, width, 3] picture, float least_score)
  => (float[objects, 4] boxes, int64[objects] labels, float[objects] scores,
      float[objects, {side}, {side}] masks, int64[objects] pictures)
{{
  zero = Constant<value = int64[1] {{0}}>()
  one = Constant<value = int64[1] {{1}}>()
  three = Constant<value = int64[1] {{3}}>()
  first = Constant<value = int64 {{0}}>()
  second = Constant<value = int64 {{1}}>()
  third = Constant<value = int64 {{2}}>()
  go = Constant<value = bool {{1}}>()
  one_pixel = Constant<value = double {{1.0}}>()
  half = Constant<value = double {{0.5}}>()
  short_side = Constant<value = double {{{short_side}}}>()
  max_size = Constant<value = double {{{max_size}}}>()
  nothing = Constant<value = float {{0.0}}>()
  no_boxes = Constant<value = float[0, 4] {{}}>()
  no_scores = Constant<value = float[0] {{}}>()
  no_labels = Constant<value = int64[0] {{}}>()
  no_masks = Constant<value = float[0, {side}, {side}] {{}}>()

  shape = Shape(picture)
  count = Shape<start = 0, end = 1>(picture)
  trips = Squeeze(count)
  given = Slice(shape, one, three)
  sides = Cast<to = 11>(given)
  shortest = ReduceMin<keepdims = 0>(sides)
  longest = ReduceMax<keepdims = 0>(sides)
  by_short = Div(short_side, shortest)
  by_long = Div(max_size, longest)
  scale = Min(by_short, by_long)
  scaled = Mul(sides, scale)
  shifted = Add(scaled, half)
  floored = Floor(shifted)
  wanted = Max(floored, one_pixel)
  resized = Cast<to = 7>(wanted)

  found, labels, scores, masks, pictures = Loop <body = one_picture
    (int64 place, bool go_in, float[a, 4] boxes_in, int64[b] labels_in, float[c] scores_in,
     float[d, e, f] masks_in, int64[g] pictures_in)
    => (bool go_out, float[a1, 4] boxes_out, int64[b1] labels_out, float[c1] scores_out,
        float[d1, e1, f1] masks_out, int64[g1] pictures_out) {{
      chosen = Gather<axis = 0>(picture, place)
      red = Gather<axis = 2>(chosen, first)
      green = Gather<axis = 2>(chosen, second)
      blue = Gather<axis = 2>(chosen, third)
      red_plane = Unsqueeze(red, zero)
      green_plane = Unsqueeze(green, zero)
      blue_plane = Unsqueeze(blue, zero)
      planes = Concat<axis = 0>(red_plane, green_plane, blue_plane)
      values = Cast<to = 1>(planes)
      alone = Unsqueeze(values, zero)
      pixels = Resize<mode = "linear", antialias = 1, coordinate_transformation_mode = "half_pixel",
        axes = [2, 3]> (alone, "", "", resized)
      go_out = Identity(go_in)
      boxes_out = Concat<axis = 0>(boxes_in, {net}boxes)
      labels_out = Concat<axis = 0>(labels_in, {net}labels)
      scores_out = Concat<axis = 0>(scores_in, {net}scores)
      masks_out = Concat<axis = 0>(masks_in, {net}masks)
      new = Shape({net}scores)
      origin = Expand(place, new)
      pictures_out = Concat<axis = 0>(pictures_in, origin)
  }}> (trips, go, no_boxes, no_labels, no_scores, no_masks, no_labels)

  ratio_exact = Div(sides, wanted)
  ratio = Cast<to = 1>(ratio_exact)
  limit = Cast<to = 1>(given)
  turned = Constant<value = int64[4] {{1, 0, 1, 0}}>()
  ratios = Gather<axis = 0>(ratio, turned)
  limits = Gather<axis = 0>(limit, turned)
  enlarged = Mul(found, ratios)
  inside = Min(enlarged, limits)
  boxes = Max(inside, nothing)
}}
"""
"""All around the network, in ONNX's text form: sizes as of :func:`maskdistill.detector.grids.resized_shape`,
and the pictures of a batch one after another, since each has its own number of objects. Without a
transposition: onnxruntime moves one past Resize where a quantised network follows, and gets its axes wrong.
"""


class PixelsToObjects(nn.Module):
    """The network without what happens at the picture's full size: resizing before, pasting the masks after.

    Args:
        model: of :func:`maskdistill.detector.model.build_detector`, in eval mode, on the CPU.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, least_score: Tensor) -> tuple[Tensor, ...]:
        """RGB values 0..255, float32 (1, 3, H, W) resized, and a score -> :data:`OUTPUTS` of n objects, best
        first.

        Returns:
            float (n, 4) xyxy in pixels of ``pixels``, int64 (n,) of 1..K, float (n,), float (n, S, S) inside
            the boxes.
        """
        images = ImageList(normalize(pixels), [(pixels.shape[-2], pixels.shape[-1])])
        model: Any = self.model
        found = model.backbone(images.tensors)
        maps = {"0": found} if isinstance(found, Tensor) else found
        proposals, _ = model.rpn(images, maps)
        usual, model.roi_heads.score_thresh = model.roi_heads.score_thresh, least_score
        ((found,), _) = model.roi_heads(maps, proposals, images.image_sizes)
        model.roi_heads.score_thresh = usual
        return found["boxes"], found["labels"], found["scores"], found["masks"][:, 0]


def write_network(model: nn.Module, config: DetectorConfig, path: Path) -> int:
    """Write the bare network: ``pixels`` (1, 3, H, W) of any size and ``least_score`` (), outputs
    :data:`OUTPUTS`.

    By torch's exporter of traces, which torchvision's detection supports; the one of graphs takes no sizes
    that follow from the data.

    Args:
        model: of ``build_detector``, in eval mode, on the CPU.
        config: its settings at test time.
        path: file to write.

    Returns:
        S, the side of the masks.
    """
    side = config.min_size_test
    example = (
        torch.linspace(0, 255, 3 * side * (side + 16)).reshape(1, 3, side, side + 16),
        torch.tensor(0.0),
    )
    network = PixelsToObjects(model).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        *_, masks = network(*example)
        torch.onnx.export(
            network,
            example,
            path,
            input_names=["pixels", "least_score"],
            output_names=list(OUTPUTS),
            dynamic_axes={"pixels": {2: "height", 3: "width"}} | {name: {0: "objects"} for name in OUTPUTS},
            opset_version=OPSET,
            dynamo=False,
        )
    return int(masks.shape[-1])


def write_detector_onnx(
    network: Path, config: DetectorConfig, side: int, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write the detector around a network of :func:`write_network`.

    Inputs ``picture``, uint8 (B, H, W, 3) of any B, H and W, and ``least_score``, float (). Outputs of all n
    objects: ``boxes`` float (n, 4), xyxy in pixels of the pictures; ``labels`` int64 (n,), 1..K; ``scores``
    float (n,); ``masks`` float (n, S, S), probabilities that fill the boxes; ``pictures`` int64 (n,), the
    place in the batch.

    Args:
        network: file of the network.
        config: its settings at test time.
        side: S.
        path: file to write.
        metadata: strings that are stored in the file.
    """
    import onnx

    core = onnx.compose.add_prefix(onnx.load(network), PREFIX)
    text = WRAPPER.format(
        ir=core.ir_version, opset=OPSET, side=side, net=PREFIX.replace("/", "_"),
        short_side=float(config.min_size_test), max_size=float(config.max_size),
    )  # fmt: skip
    whole = onnx.parser.parse_model(text)
    body = next(node for node in whole.graph.node if node.op_type == "Loop").attribute[0].g
    names = {PREFIX + name: PREFIX.replace("/", "_") + name for name in OUTPUTS}
    names |= {f"{PREFIX}pixels": "pixels", f"{PREFIX}least_score": "least_score"}
    before = next(place for place, node in enumerate(body.node) if node.op_type == "Identity")
    after = list(body.node[before:])
    del body.node[before:]
    body.node.extend(core.graph.node)
    for node in body.node[before:]:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    body.node.extend(after)
    whole.graph.initializer.extend(core.graph.initializer)
    known = {entry.domain for entry in whole.opset_import}
    whole.opset_import.extend(entry for entry in core.opset_import if entry.domain not in {*known, "ai.onnx"})
    save(whole, path, metadata)

"""CorLoc of LOST's published boxes by our own code: 3102 of 5011 images, 61.9 [LOST, Table 1].

    python tests/benchmarks/corloc.py TRAINVAL.json [--boxes voc2007_boxes_xyxy.json]

TRAINVAL.json is VOC2007 trainval in COCO's format, difficult objects included: 5,011 images, 15,662 boxes.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from maskdistill.evaluation.localisation import corloc_hits

SHARED = Path(__file__).parents[3] / "shared/data"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainval", type=Path)
    parser.add_argument("--boxes", type=Path, default=SHARED / "fixtures/lost/voc2007_boxes_xyxy.json")
    args = parser.parse_args()
    truth = json.loads(args.trainval.read_text())
    boxes = defaultdict(list)
    for annotation in truth["annotations"]:
        boxes[annotation["image_id"]].append(annotation["bbox"])
    corners = np.array([json.loads(args.boxes.read_text())[image["file_name"]] for image in truth["images"]])
    found = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    hits = corloc_hits(list(found), [boxes[image["id"]] for image in truth["images"]])
    print(f"{len(truth['annotations'])} boxes; CorLoc {hits.sum()}/{hits.size} = {100 * hits.mean():.2f} %")


if __name__ == "__main__":
    main()

"""Ways to train the segmenter on a finished run's pseudo-labels that are no options of the product.

A script to run by hand, on a run of development scenes; ground truth is used for the scores alone:

    snakemake --cores all --resources gpu=0 --configfile config/demo.yaml --config run=dev 'data={seed: 77}'
    .venv/bin/python tests/benchmarks/segmenter_options.py \\
        results/dev/topk-0.4/k-6/seed-1234/tau-0.5/hard-0.2/crf-0 [--alpha 0.1 --beta 1 --from-epoch 4]

Settings, seed and first weights are those of the run's own segmenter, so that a training without options ends
in its very weights. Each training is scored as its last step left it and as averages of its steps' weights
and running statistics: exponential ones, and the mean of the last epochs (stochastic weight averaging,
Izmailov et al. 2018). The options: symmetric cross-entropy (Wang et al. 2019) of which the hardest pixels are
taken, and a teacher (the average of decay 0.99, Tarvainen & Valpola 2017) whose label stands in for the given
one where it is sure of another.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskdistill.backbones.vit import normalize
from maskdistill.cli.evaluation import score_images
from maskdistill.cli.evaluation_inputs import load_ground_truth
from maskdistill.cli.predictions import BATCH
from maskdistill.config import EvaluationConfig, SegmenterConfig
from maskdistill.data.images import load_rgb
from maskdistill.data.manifest import image_rows, ok_images, read_manifest
from maskdistill.evaluation.metrics.registry import Setting
from maskdistill.evaluation.stages import STAGES
from maskdistill.formats.label_png import write_label_png
from maskdistill.runtime.devices import make_deterministic, pick_device
from maskdistill.runtime.files import read_json
from maskdistill.segmenter.build import initial_segmenter
from maskdistill.segmenter.data import LabelledImages, find_label_files, segmenter_batches
from maskdistill.segmenter.inference import segment
from maskdistill.segmenter.loss import IGNORE
from maskdistill.segmenter.model import segmenter_lr, steps_per_epoch
from maskdistill.segmenter.trained import load_segmenter
from maskdistill.training.loop import LoopSettings, train
from maskdistill.training.optimizers import backbone_groups, build_optimizer

State = Mapping[str, Tensor]
LOG_ZERO = -4.0
"""A of Wang et al. 2019: what stands for log 0 of the labels' distribution."""
TEACHER = 0.99


def symmetric(cross_entropy: Tensor, alpha: float, beta: float) -> Tensor:
    """Of each pixel alpha CE + beta RCE.

    RCE is -sum_k p_k log q_k over the classes; log q is 0 for the label, A for all others: -A (1 - p_label).
    """
    return alpha * cross_entropy - beta * LOG_ZERO * (1 - torch.exp(-cross_entropy))


class Average:
    """Of a state's floating-point tensors; integers are the last ones.

    Args:
        decay: of the exponential average, which is a plain mean until 1 / (1 - decay) steps are in it; 1:
            a plain mean for good.
        start: first step that counts.
    """

    def __init__(self, decay: float, start: int = 0) -> None:
        self.decay, self.start, self.count = decay, start, 0
        self.state: dict[str, Tensor] = {}

    def add(self, state: State, step: int) -> None:
        """Take in the state after a step."""
        if step < self.start:
            return
        self.count += 1
        share = max(1 - self.decay, 1 / self.count)
        for name, value in state.items():
            if self.count > 1 and value.is_floating_point():
                self.state[name].lerp_(value, share)
            else:
                self.state[name] = value.clone()


class Trial:
    """One training and its averages.

    Args:
        folder: of the run, ``.../tau-T/hard-H/crf-0``.
        args: the options.
    """

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.args, self.folder = args, folder
        self.run = folder.parents[5]
        own = load_segmenter(folder / "segmenter/model.safetensors", torch.device("cpu"))
        names = {"weights": f"config/weights/{own.config.weights}", "checkpoint_every": 10**6}
        change = {"drop_after": args.drop_after or own.config.drop_after}
        self.config: SegmenterConfig = own.config.model_copy(update=names | change)
        self.clusters = own.num_clusters
        self.seed = int(folder.parents[2].name.removeprefix("seed-"))
        self.manifest = str(self.run / "data/manifest.csv")
        rows = image_rows(ok_images(read_manifest(self.manifest), segmenter=True))
        shards = sorted(folder.parents[1].glob("pseudo_labels/shard-*"))
        labels = find_label_files([row.key for row in rows], shards)
        files = list(zip([row.file for row in rows], labels, strict=True))
        self.data = LabelledImages(files, self.clusters, self.config, self.seed)
        self.epoch = steps_per_epoch(len(files), self.config.batch_size)
        self.steps = args.steps or self.config.epochs * self.epoch
        self.averages = {f"exponential, {decay}": Average(decay) for decay in (TEACHER, 0.995, 0.998)}
        for epochs in (1, 3, 5):
            self.averages[f"mean of {epochs} epochs"] = Average(1.0, self.steps - epochs * self.epoch)

    def states(self) -> dict[str, State]:
        """Train; the last state and the averages, by name."""
        make_deterministic(self.seed)
        torch.manual_seed(self.seed)
        config, epoch = self.config, self.epoch
        model = initial_segmenter(config, self.clusters).to(memory_format=torch.channels_last).train()
        groups = backbone_groups(model, model.backbone, config.weight_decay, config.backbone_lr)
        optimizer = build_optimizer(groups, config.optimizer, config.lr, config.momentum)
        teacher = copy.deepcopy(model).eval()

        def step(number: int, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            images = normalize(batch[0]).contiguous(memory_format=torch.channels_last)
            given = labels = batch[1].long()
            begun = number >= self.args.from_epoch * epoch
            if begun and self.args.sure is not None:
                teacher.load_state_dict(self.averages[f"exponential, {TEACHER}"].state)
                labels = corrected(teacher, images, given, self.args.sure)
            losses = F.cross_entropy(model(images).float(), labels, ignore_index=IGNORE, reduction="none")
            if begun and self.args.beta:
                losses = symmetric(losses, self.args.alpha, self.args.beta)
            valid = losses[labels != IGNORE]
            count = min(int(config.hard_pixels * losses.numel()), valid.numel())
            loss = valid.topk(count, sorted=False).values.mean()
            return {"loss": loss, "corrected": (labels != given).float().mean()}

        def after(number: int) -> None:
            for average in self.averages.values():
                average.add(model.state_dict(), number)

        with tempfile.TemporaryDirectory() as state:
            rows = train(
                LoopSettings(
                    self.steps, Path(state), "trial", self.seed, 10**6, self.epoch, name="segmenter"
                ),
                {"segmenter": model},
                optimizer,
                lambda start: segmenter_batches(self.data, self.steps, start),
                step,
                lambda number: segmenter_lr(config, number, epoch),
                after,
            )
        self.shares = [row["corrected"] for row in rows]
        return {"last step": model.state_dict()} | {name: one.state for name, one in self.averages.items()}

    def scores(self, state: State) -> list[float]:
        """Mean IoU, boundary IoU, pixel accuracy and CorLoc of a state on the evaluation images, percent."""
        model: nn.Module = initial_segmenter(self.config, self.clusters)
        model.load_state_dict(state)
        rows = image_rows(ok_images(read_manifest(self.manifest), support=False, eval=True))
        truth_file = str(self.run / "data/groundtruth/instances.json")
        setting = Setting(
            STAGES["segmenter"],
            load_ground_truth(self.manifest, truth_file),
            self.clusters,
            EvaluationConfig(bootstrap=0),
            self.seed,
        )
        with tempfile.TemporaryDirectory() as folder:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                pictures = [np.asarray(load_rgb(row.file)) for row in batch]
                maps = segment(model.eval(), pictures, self.config, torch.device("cpu"))
                for row, labels in zip(batch, maps, strict=True):
                    write_label_png(Path(folder) / f"{row.key}.png", labels)
            options = {"stage": "segmenter", "ground_truth": truth_file, "label_dirs": [folder], "threads": 1}
            values = score_images(argparse.Namespace(**options), setting).values
        return [values[name] or 0.0 for name in ("miou", "boundary_iou", "pixel_accuracy", "corloc")]


@torch.no_grad()
def corrected(teacher: nn.Module, images: Tensor, labels: Tensor, sure: float) -> Tensor:
    """Labels int64 (B, H, W), the teacher's where its probability is above ``sure``."""
    probability, found = teacher(images).softmax(1).max(1)
    return torch.where((probability > sure) & (labels != IGNORE), found, labels)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of a run's segmenter, .../tau-T/hard-H/crf-0")
    parser.add_argument("--alpha", type=float, default=1.0, help="weight of the cross-entropy")
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the reverse cross-entropy")
    parser.add_argument("--sure", type=float, help="probability above which the teacher's label is taken")
    parser.add_argument("--from-epoch", type=int, default=0, help="with which the options begin")
    parser.add_argument("--drop-after", type=int, help="epochs at the first rate, in place of the run's")
    parser.add_argument("--steps", type=int, help="end after so many")
    args = parser.parse_args()
    pick_device("cpu", 0)
    torch.set_num_threads(1)
    began = time.time()
    trial = Trial(args.folder.resolve(), args)
    states = trial.states()
    print(f"{trial.steps} steps in {time.time() - began:.0f} s; share of labels corrected, by epoch:")
    print(", ".join(f"{100 * share:.1f} %" for share in trial.shares))
    scored = read_json(args.folder / "evaluation/segmenter.json")
    print(f"the run's own: mIoU {scored['miou']:.2f}, boundary IoU {scored['boundary_iou']:.2f}\n")
    print("| weights | mIoU | boundary IoU | pixel acc. | CorLoc |\n|---|---|---|---|---|")
    for name, state in states.items():
        if state:
            print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in trial.scores(state)) + " |")


if __name__ == "__main__":
    main()

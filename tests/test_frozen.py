"""A frozen backbone's clusters as a segmenter: the last convolution does what assigning to centroids does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import scenes, segmenter_config, write_run

from maskdistill.backbones.resnet import build_resnet
from maskdistill.backbones.vit import normalize
from maskdistill.cli import main
from maskdistill.clusters.kmeans import assign, normalise
from maskdistill.evaluation.frozen import clustering_head, sample_cells
from maskdistill.evaluation.probe import make_probe
from maskdistill.formats.label_png import read_label_png
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.segmenter.model import OUTPUT_STRIDE, DeepLab
from maskdistill.training.checkpoint import model_metadata

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> DeepLab:
    torch.manual_seed(0)
    config = segmenter_config(head="linear")
    return DeepLab(config, 3, build_resnet(config.arch, OUTPUT_STRIDE)).eval()


def test_the_largest_output_is_the_nearest_centroid(model: DeepLab) -> None:
    images = [scene.image for scene in scenes(4)]
    cells = sample_cells(model, images, 30, segmenter_config(), CPU, seed=5)
    assert cells.shape == (4 * 30, model.backbone.channels[3])
    np.testing.assert_allclose(np.linalg.norm(cells, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(cells, sample_cells(model, images, 30, segmenter_config(), CPU, seed=5))
    low = sample_cells(model, images, 30, segmenter_config(precision="bfloat16"), CPU, seed=5)
    assert 1e-5 < np.abs(low - cells).max() < 0.1
    clustering_head(model, cells, seed=1, threads=1)
    batch = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = model.backbone(normalize(batch))
        outputs = model.classifier(maps)
    features = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).numpy()
    centroids = model.state_dict()["classifier.4.weight"][:, :, 0, 0].numpy()
    expected = assign(normalise(features, None, True), centroids).assignments
    assert outputs.argmax(1).flatten().tolist() == expected.tolist() and len(set(expected)) > 1


def test_a_probe_trains_its_last_convolution_alone(model: DeepLab) -> None:
    probe = make_probe(model, 5, 0.01)
    trainable = [name for name, parameter in probe.named_parameters() if parameter.requires_grad]
    assert trainable == ["classifier.4.weight", "classifier.4.bias"]
    assert probe(torch.zeros(1, 3, 48, 48)).shape == (1, 6, 48, 48)


def test_without_pictures_there_is_nothing_to_cluster(model: DeepLab) -> None:
    with pytest.raises(MaskDistillError, match="no usable training image"):
        sample_cells(model, [], 4, segmenter_config(), CPU, 0)


def test_from_pictures_to_label_maps(tmp_path: Path) -> None:
    write_run(tmp_path, scenes(3))
    settings = segmenter_config().model_dump_json()
    output = tmp_path / "model.safetensors"
    manifest = ["--manifest", str(tmp_path / "manifest.csv"), "--gpus", "0"]
    assert (
        main(["frozen", *manifest, "--num-clusters", "3", "--params", settings, "--output", str(output)]) == 0
    )
    assert model_metadata(output, "segmenter")["num_clusters"] == "3"
    maps = tmp_path / "maps"
    assert (
        main(["predictions", *manifest, "--shard", "0", "--model", str(output), "--output", str(maps)]) == 0
    )
    values = {int(value) for path in maps.glob("*.png") for value in np.unique(read_label_png(path))}
    assert values <= {0, 1, 2, 3} and len(values) > 1

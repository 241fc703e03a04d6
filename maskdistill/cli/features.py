"""CLS query and patch keys of the last attention block for one shard of images, as HDF5."""

import argparse

from maskdistill.backbones import vit
from maskdistill.cli import extraction
from maskdistill.cli.common import start_on_device
from maskdistill.config import FeaturesConfig, parse_section
from maskdistill.features import store
from maskdistill.runtime.provenance import make_provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--output", required=True, help="shard (.h5)")
    extraction.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Extract the features of one shard."""
    device = start_on_device(args, "features")
    config = parse_section(FeaturesConfig, args.params)
    work = extraction.Extraction(args, config, device)
    provenance = make_provenance("features", work.params | {"dtype": config.dtype}, work.inputs)
    work.start()
    with store.write_features(
        args.output, work.rows, work.grids, work.backbone.patch_size, provenance
    ) as writer:
        writer.create(work.backbone.embed_dim, vit.num_heads(work.model), config.dtype)
        work.each(writer.put)

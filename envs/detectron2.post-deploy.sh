#!/usr/bin/env bash
# Run by Snakemake in the project's folder once the environment is made: build detectron2 as tested (four minutes; the
# CPU part is enough, this model's GPU operations are torchvision's), then put the entry points into it.
set -euo pipefail
pip install --no-deps --no-build-isolation \
    "git+https://github.com/facebookresearch/detectron2@02b5c4e295e990042a714712c21dc79b731e8833"
pip install --no-deps --no-build-isolation .

#!/usr/bin/env bash
# Run by Snakemake in the project's folder once the environment is made: put the entry points into it.
set -euo pipefail
pip install --no-deps --no-build-isolation .

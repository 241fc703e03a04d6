# make demo: images to report on generated scenes. make test: everything CI checks. Each sets itself up.
# make lint, make types, make quick: its parts that take seconds to two minutes (quick: the tests that are not slow).
# make export: what `maskdistill export` needs beside (ONNX, onnxruntime).
# make parquet: Parquet files of pictures, and of objects (pyarrow). make video: pictures of videos.
# make remote: what pictures in object stores and on web servers need beside (requests, signatures).
# make names: what `maskdistill names` needs beside (open_clip).
# make tensorboard: what `maskdistill curves --tensorboard` needs beside.
# make docs: the documentation as a site, in site/.
# make crf: what CRF rounds need beside (crf.rounds above 0); compiled, so g++ and Python's headers are wanted.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
TESTED := crf,export,names,parquet,remote,tensorboard,video
TESTS := tests/slurm tests/dag tests/test_*.py
# Of the many processes of a run and of the tests each would compile what it imports, in a container as of a Dockerfile
# that sets this.
export PYTHONDONTWRITEBYTECODE :=
GPUS := $(shell nvidia-smi -L 2>/dev/null | grep -c ^GPU)

.PHONY: demo test collected lint types quick install crf export docs names parquet remote tensorboard video
install: $(STAMP)
crf: $(VENV)/installed-crf
export: $(VENV)/installed-export
names: $(VENV)/installed-names
parquet: $(VENV)/installed-parquet
remote: $(VENV)/installed-remote
tensorboard: $(VENV)/installed-tensorboard
video: $(VENV)/installed-video

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "Python 3.11 or 3.12 is needed; give one: make PYTHON=python3.11"; exit 1; }
	@echo "Installing into $(VENV): about 6 GB, 1 to 4 minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(VENV) -r requirements.lock -e .
	touch $@

# An optional extra of pyproject.toml, or several; its pins and the lock's keep every version that is there.
$(VENV)/installed-%: $(STAMP)
	$(BIN)/uv pip install --quiet --python $(VENV) -c requirements.lock -e '.[$*]'
	touch $@

demo: $(STAMP)
	$(BIN)/snakemake --cores all --resources gpu=$(GPUS) --configfile config/demo.yaml --quiet progress reason host
	$(BIN)/maskdistill show results/demo

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile config/demo.yaml

types: $(STAMP)
	$(BIN)/mypy

quick: $(VENV)/installed-$(TESTED)
	$(BIN)/pytest -n 3 --dist worksteal -m "not slow"

collected: $(VENV)/installed-$(TESTED)
	@$(BIN)/pytest --collect-only -qq $(TESTS) >$(VENV)/collected.txt || { cat $(VENV)/collected.txt; false; }

# While format, lint and types are checked, one process reads all tests: libraries and asserts are compiled once, not by
# each of those that share the tests then. These are three, for some tests wait for Slurm or for time to pass.
test: $(VENV)/installed-$(TESTED)
	@$(MAKE) --no-print-directory --jobs=2 collected lint types
	$(BIN)/pytest -n 3 --dist worksteal $(TESTS)

# syntax=docker/dockerfile:1
# The workflow and its package, from requirements.lock.
#
#   docker build -t maskdistill .                              # for NVIDIA GPUs and CPUs; libraries of about 6 GB
#   docker build -t maskdistill:cpu --build-arg DEVICE=cpu .   # for CPUs alone, much smaller
#
#   docker run --rm --shm-size=2g -v "$PWD/results:/maskdistill/results" maskdistill:cpu          # the demo
#   docker run --rm --shm-size=2g --gpus all -v /path/to/photos:/photos:ro -v "$PWD/results:/maskdistill/results" \
#     maskdistill snakemake --cores all --resources gpu=1 --configfile config/folder.yaml --config 'data={kind: folder, root: /photos}'
#
# The user in the container has the id 1000; another: --build-arg UID=$(id -u). The CUDA libraries come with PyTorch's
# wheels; the host needs NVIDIA's driver and container toolkit.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ARG DEVICE=cuda
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# g++ compiles the dense CRF; no version is pinned, because Debian keeps only the newest of a release.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/venv
RUN python -m venv --without-pip /opt/venv
WORKDIR /maskdistill
# The libraries first: they change less often than the code.
COPY requirements.lock ./
RUN case "$DEVICE" in \
      cuda) uv pip install -r requirements.lock ;; \
      cpu) sed -E '/^(cuda|nvidia|triton)/d' requirements.lock > /tmp/cpu.lock \
        && uv pip install --torch-backend cpu -r /tmp/cpu.lock && rm /tmp/cpu.lock ;; \
      *) echo "DEVICE is cuda or cpu, not $DEVICE" >&2; exit 1 ;; \
    esac
COPY LICENSE README.md pyproject.toml setup.py ./
COPY maskdistill maskdistill
# Editable, as `make install` has it: the workflow takes package and configurations from one checkout.
RUN uv pip install --no-deps --editable . && uv pip install --no-deps pydensecrf2==1.1

FROM python:${PYTHON}-slim-bookworm
ARG UID=1000
RUN useradd --uid "$UID" --create-home maskdistill \
    && install --directory --owner maskdistill /maskdistill /maskdistill/results /maskdistill/resources
COPY --from=build /opt/venv /opt/venv
WORKDIR /maskdistill
COPY --from=build --chown=maskdistill /maskdistill .
COPY --chown=maskdistill Snakefile ./
COPY --chown=maskdistill config config
COPY --chown=maskdistill envs envs
COPY --chown=maskdistill workflow workflow
RUN ln -s workflow/profiles profiles
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER $UID
CMD ["snakemake", "--cores", "all", "--configfile", "config/demo.yaml"]

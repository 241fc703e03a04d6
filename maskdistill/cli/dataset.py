"""Get an official dataset: download and unpack it, or note where a copy lies. A copy is never changed.

Interrupted downloads are continued, and all are checked; archives are unpacked into a temporary folder, which
gets its name when it is complete. The record at --output says where the data lies and which files it came
from.
"""

import argparse
import logging
import shutil
from pathlib import Path
from typing import Any

from maskdistill.cli.common import add_common, start
from maskdistill.config import DatasetConfig, parse_section
from maskdistill.data.official_datasets import (
    DATASETS,
    OfficialDataset,
    OfficialFile,
    find_dataset,
    find_root,
    missing_parts,
)
from maskdistill.runtime.archives import extract
from maskdistill.runtime.download import download
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.files import atomic_directory, read_json, write_json
from maskdistill.runtime.provenance import make_provenance

log = logging.getLogger("maskdistill")
FILES = "files"
RECORD = "files.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--name", required=True, help=f"one of {', '.join(DATASETS)}")
    parser.add_argument(
        "--downloads", default="resources/downloads", metavar="DIR", help="folder of archives"
    )
    parser.add_argument("--keep-archives", action="store_true", help="keep archives after they are unpacked")
    parser.add_argument(
        "--output", required=True, metavar="JSON", help="record; files are unpacked beside it"
    )
    add_common(parser)


def run(args: argparse.Namespace) -> None:
    """Download or link, and write the record."""
    start(args, "dataset")
    config = parse_section(DatasetConfig, args.params)
    dataset = find_dataset(args.name)
    if unknown := sorted(config.md5.keys() - {file.name for file in dataset.files}):
        raise MaskDistillError(
            f"datasets.{args.name}.md5: {unknown[0]} is none of its files"
            f" ({', '.join(file.name for file in dataset.files)})"
        )
    log.info("%s: terms: %s", args.name, dataset.terms)
    output = Path(args.output)
    files: dict[str, Any] = {}
    if config.path is not None:
        try:
            root = str(find_root(dataset, Path(config.path).expanduser().absolute()))
        except MaskDistillError as error:
            raise MaskDistillError(f"datasets.{args.name}: {error}") from None
    else:
        folder = output.parent / FILES
        files = _fetched(args, dataset, config, folder)
        root = f"{FILES}/{dataset.root}"
    log.info("%s: at %s", args.name, output.parent / root)
    provenance = make_provenance("dataset", {"name": args.name}, {})
    write_json(output, {"name": args.name, "root": root, "files": files, "provenance": provenance})


def _fetched(
    args: argparse.Namespace, dataset: OfficialDataset, config: DatasetConfig, folder: Path
) -> dict[str, dict[str, Any]]:
    """MD5 and bytes of each file, unpacked below ``folder``; files that match are kept."""
    expected = {file.name: config.md5.get(file.name, file.md5) for file in dataset.files}
    found = _record(folder / RECORD)
    if found and all(name in found and sum in (None, found[name]["md5"]) for name, sum in expected.items()):
        log.info("%s is there already", folder)
        return found
    downloads = Path(args.downloads)
    found = {file.name: _download(file, config, downloads, expected[file.name]) for file in dataset.files}
    with atomic_directory(folder) as temporary:
        for file in dataset.files:
            if file.top:
                log.info("unpacking %s", file.name)
                log.info("%d files", extract(downloads / file.name, temporary, file.top))
            else:
                shutil.copyfile(downloads / file.name, temporary / file.name)
        if absent := missing_parts(dataset, temporary / dataset.root):
            archives = ", ".join(str(downloads / file.name) for file in dataset.files)
            raise MaskDistillError(
                f"{archives}: lacks {', '.join(absent)}: not the official archive; put that in its place"
            )
        write_json(temporary / RECORD, found)
    if not args.keep_archives:
        for file in dataset.files:
            (downloads / file.name).unlink()
    return found


def _record(path: Path) -> dict[str, Any]:
    """What an earlier call unpacked; empty where there is nothing, or a record that cannot be trusted."""
    try:
        return dict(read_json(path)) if path.is_file() else {}
    except MaskDistillError as error:
        log.warning("%s; the dataset is downloaded again", error)
        return {}


def _download(file: OfficialFile, config: DatasetConfig, downloads: Path, md5: str | None) -> dict[str, Any]:
    url = f"{config.mirror.rstrip('/')}/{file.name}" if config.mirror else file.url
    path = downloads / file.name
    by_hand = (
        f"fetch {url} on a machine with a network and put it at {path}, or give the folder of a copy as path"
    )
    found = download(url, path, f"md5:{md5 or ''}", by_hand)
    if not md5:
        log.warning(
            "%s: no checksum is known; its MD5 is %s: write it into datasets to fix it", file.name, found
        )
    return {"md5": found, "bytes": path.stat().st_size, "checked": bool(md5)}

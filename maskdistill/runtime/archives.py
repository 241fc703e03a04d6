"""Unpacking untrusted archives: nothing outside the folder, nothing unexpected, nothing cut short."""

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from maskdistill.runtime.download import looks_like_web_page
from maskdistill.runtime.errors import MaskDistillError
from maskdistill.runtime.tar_headers import StrictHeader


def extract(archive: str | Path, folder: str | Path, top: str) -> int:
    """Unpack a tar (plain or gzip) or zip archive whose members all lie below one folder.

    Only regular files and folders are accepted: no links, no devices, no absolute names, no ``..``. Owner,
    mode and time stamps in the archive are ignored. After an error, files unpacked so far remain, so give a
    temporary folder.

    Args:
        folder: where to unpack; it must exist.
        top: folder that every member must lie below, e.g. ``VOCdevkit``.

    Returns:
        Number of files.

    Raises:
        MaskDistillError: not such an archive (e.g. a web page), cut short, damaged, a member that is not
            accepted, or too little disk space.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with open(archive, "rb") as stream:
            start = stream.read(256)
    except OSError as error:
        raise MaskDistillError(f"{archive}: cannot be read ({error.strerror}); fetch it again") from None
    if looks_like_web_page(start):
        raise MaskDistillError(f"{archive}: is a web page, not an archive; put the file itself in its place")
    try:
        if start.startswith(b"PK"):
            return _extract_zip(archive, folder, top)
        return _extract_tar(archive, folder, top, start.startswith(b"\x1f\x8b"))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MaskDistillError(
            f"{archive}: not a whole archive ({error}): cut short or damaged; replace it with a complete copy"
        ) from None


def _extract_tar(archive: Path, folder: Path, top: str, compressed: bool) -> int:
    count = 0
    with tarfile.open(archive, "r:gz" if compressed else "r:", tarinfo=StrictHeader) as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()):
                raise MaskDistillError(_refused(archive, member.name, "is a link or a device"))
            target = _target(archive, folder, member.name, top)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            content = tar.extractfile(member)
            assert content is not None
            _need_space(archive, folder, member.size)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as stream:
                shutil.copyfileobj(content, stream, 1 << 20)
            if target.stat().st_size != member.size:
                raise tarfile.ReadError(f"{member.name} ends early")
            count += 1
        while tar.fileobj is not None and tar.fileobj.read(1 << 20):
            pass  # gzip checks its checksum at its end, which follows the tar's end
    return count


def _extract_zip(archive: Path, folder: Path, top: str) -> int:
    count = 0
    with zipfile.ZipFile(archive) as source:
        for member in source.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise MaskDistillError(_refused(archive, member.filename, "is a link or a device"))
            target = _target(archive, folder, member.filename, top)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            _need_space(archive, folder, member.file_size)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as content, open(target, "xb") as stream:
                shutil.copyfileobj(content, stream, 1 << 20)
            count += 1
    return count


def _target(archive: Path, folder: Path, name: str, top: str) -> Path:
    """Where a member goes; refused unless its name leads below ``top`` and no file is there yet."""
    path = PurePosixPath(name)
    parts = path.parts
    if path.is_absolute() or ".." in parts or "\\" in name or "\0" in name or (parts and ":" in parts[0]):
        raise MaskDistillError(_refused(archive, name, "leads outside the folder"))
    if not parts or parts[0] != top:
        raise MaskDistillError(_refused(archive, name, f"does not lie below {top}/"))
    target = folder.joinpath(*parts)
    if target.is_file():
        raise MaskDistillError(_refused(archive, name, "is there twice"))
    return target


def _refused(archive: Path, name: str, reason: str) -> str:
    return f"{archive}: member {name!r} {reason}; this is not the official archive: put that in its place"


def _need_space(archive: Path, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MaskDistillError(
            f"{folder}: {free:,} bytes free, {size:,} needed to unpack {archive}; free some space"
        )

"""Archives of others: what is unpacked, and what is refused before it can do harm."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from maskdistill.runtime.archives import extract
from maskdistill.runtime.errors import MaskDistillError

FILES = {
    "top/a.txt": b"alpha",
    "top/deep/b.jpg": bytes(range(256)) * 40,
    "top/deep/c.txt": b"",
    "top/d.bin": b"d" * 700,
}


def tar_of(
    path: Path, files: dict[str, bytes], mode: str = "w", extra: list[tarfile.TarInfo] | None = None
) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra or []:
            tar.addfile(info)
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def make(path: Path, kind: str, files: dict[str, bytes]) -> Path:
    return zip_of(path, files) if kind == "zip" else tar_of(path, files, "w:gz" if kind == "tgz" else "w")


def refusal(archive: Path, folder: Path) -> str:
    folder.mkdir()
    with pytest.raises(MaskDistillError) as error:
        extract(archive, folder, "top")
    assert str(archive) in str(error.value)
    return str(error.value)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_all_files_arrive(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / "a", kind, FILES)
    folder = tmp_path / "out"
    folder.mkdir()
    assert extract(archive, folder, "top") == len(FILES)
    found = {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }
    assert found == FILES


@pytest.mark.hostile(
    "archive: members with .. or absolute names, or outside the expected folder",
    outcome="refused; the message names the member",
)
@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("top/../../evil.txt", "leads outside"),
        ("../evil.txt", "leads outside"),
        ("/tmp/evil.txt", "leads outside"),
        ("C:/evil.txt", "leads outside"),
        ("other/evil.txt", "does not lie below top/"),
        ("evil.txt", "does not lie below top/"),
        ("top/a.txt", "is there twice"),
    ],
)
def test_members_that_lead_elsewhere(tmp_path: Path, kind: str, name: str, message: str) -> None:
    archive = tmp_path / "a"
    if name in FILES:
        twice(archive, kind, name)
    else:
        make(archive, kind, FILES | {name: b"evil"})
    told = refusal(archive, tmp_path / "out")
    assert message in told and repr(name) in told and "not the official archive" in told
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/tmp/evil.txt").exists()


def twice(archive: Path, kind: str, name: str) -> None:
    """Write an archive with a second member of the same name."""
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as target, pytest.warns(UserWarning, match="Duplicate"):
            target.writestr(name, b"first")
            target.writestr(name, b"evil")
    else:
        tar_of(archive, FILES, "w:gz" if kind == "tgz" else "w", [special(name, tarfile.REGTYPE)])


@pytest.mark.hostile(
    "archive: symbolic and hard links, devices (tar)", outcome="refused; the message names the member"
)
@pytest.mark.parametrize(
    "member",
    [
        special("top/link", tarfile.SYMTYPE, "/etc"),
        special("top/link", tarfile.SYMTYPE, "a.txt"),
        special("top/link", tarfile.LNKTYPE, "top/a.txt"),
        special("top/pipe", tarfile.FIFOTYPE),
        special("top/null", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices(tmp_path: Path, member: tarfile.TarInfo) -> None:
    archive = tar_of(tmp_path / "a.tar", FILES, extra=[member])
    assert "is a link or a device" in refusal(archive, tmp_path / "out")
    assert not (tmp_path / "out" / member.name).is_symlink()


@pytest.mark.hostile("archive: symbolic link (zip)", outcome="refused")
def test_a_link_in_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as target:
        info = zipfile.ZipInfo("top/link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        target.writestr(info, "/etc/passwd")
    assert "is a link or a device" in refusal(archive, tmp_path / "out")


@pytest.mark.hostile("archive: truncated, at any byte", outcome="refused: fetch it again")
@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_every_cut_is_noticed(tmp_path: Path, kind: str) -> None:
    """Also between two members, where tarfile alone sees the end of the archive."""
    whole = make(tmp_path / "whole", kind, FILES).read_bytes()
    end = len(whole)
    if kind == "tar":  # one empty block ends it; what follows is padding
        end = max(i for i in range(0, len(whole), 512) if any(whole[i : i + 512])) + 1024
    cuts = {300, 512, 1024, end // 2 // 512 * 512, end // 2, end - 1, end - 512, end - 700}
    for number, length in enumerate(cut for cut in cuts if 0 < cut < end):
        archive = tmp_path / f"cut-{number}"
        archive.write_bytes(whole[:length])
        told = refusal(archive, tmp_path / f"out-{number}")
        assert "cut short or damaged; replace it with a complete copy" in told, length


@pytest.mark.hostile("archive: damaged bytes", outcome="refused: fetch it again")
@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_damage_is_noticed(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / "a", kind, {"top/a": bytes(range(256)) * 8, "top/b": b"x" * 600, "top/c": b"y"})
    content = bytearray(archive.read_bytes())
    place = 512 + 2048 if kind == "tar" else len(content) // 3  # tar: the second header
    content[place : place + 8] = b"\xff" * 8
    archive.write_bytes(content)
    assert "cut short or damaged" in refusal(archive, tmp_path / "out")


@pytest.mark.hostile("archive: a web page or another file", outcome="refused")
def test_what_is_no_archive(tmp_path: Path) -> None:
    page = tmp_path / "VOC.tar"
    page.write_bytes(b"\n<!DOCTYPE html><html>504 Gateway Time-out</html>")
    assert "is a web page, not an archive" in refusal(page, tmp_path / "one")
    for number, content in enumerate([b"", b"some text", b"\0" * 100, b"PK\3\4", b"\x1f\x8b\x08"]):
        other = tmp_path / f"{number}.tar"
        other.write_bytes(content)
        assert "replace it with a complete copy" in refusal(other, tmp_path / f"out-{number}")
    assert "cannot be read (No such file" in refusal(tmp_path / "absent.tar", tmp_path / "two")


@pytest.mark.hostile(
    "archive: larger than the free disk space", outcome="refused with the space that is wanted"
)
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zip_of(tmp_path / "a.zip", FILES)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    told = refusal(archive, tmp_path / "out")
    assert "100 bytes free, 10,240 needed" in told and "free some space" in told

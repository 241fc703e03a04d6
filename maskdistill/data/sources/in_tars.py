"""What sources have in common whose pictures lie in tar archives, wherever these are."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from maskdistill.data.keys import KeyClashes, key_of_path
from maskdistill.data.listed import ListedImage
from maskdistill.data.picture_names import SUFFIXES, left_out_words
from maskdistill.data.picture_refs import Inside
from maskdistill.data.sources.base import Look
from maskdistill.data.tar_index import Member
from maskdistill.runtime.errors import MaskDistillError


class TarPicture(NamedTuple):
    """A picture of an archive.

    Attributes:
        prefix: what the keys of the archive's pictures begin with.
        archive: its name where it is opened (:mod:`maskdistill.data.picture_refs`).
        told: its name for people.
        member: the picture in it.
    """

    prefix: str
    archive: str
    told: str
    member: Member

    @property
    def key(self) -> str:
        """``ARCHIVE/SAMPLE``."""
        sample = self.member.sample.replace("..", "~~") if self.member.fault else self.member.sample
        return f"{self.prefix}/{key_of_path(sample) or '~'}"


def pictures_in_tars(
    members: Callable[[Look], Iterator[TarPicture]], look: Look, named: str
) -> Iterator[ListedImage]:
    """The picture of each sample, archive by archive, all to train on.

    Args:
        members: lists them, always in one order.
        named: the setting, as messages name it.

    Raises:
        MaskDistillError: there is none, or results of two would overwrite each other.
    """
    clashes, number = KeyClashes(), 0
    for number, found in enumerate(members(look), start=1):
        clashes.add(found.key, number)
        member = found.member
        place = Inside(found.archive, member.name, member.offset, member.size, member.fault)
        yield ListedImage(found.key, Path(str(place)), True, False)
    if not number:
        others = f"; there are {left_out_words(look.left_out)}" if look.left_out else ""
        raise MaskDistillError(
            f"{look.section}.root: no picture in {named} (a picture is a member called NAME.jpg "
            f"or the like, without a further dot; looked for {' '.join(SUFFIXES)}{others})"
        )
    if same := clashes.find(lambda: ((n, m.key) for n, m in enumerate(members(_again(look)), 1))):
        raise _clash(same, members(_again(look)))


def _again(look: Look) -> Look:
    """The same look with a count of its own."""
    return Look(look.section, kept=look.kept)


def _clash(same: tuple[int, int], members: Iterator[TarPicture]) -> MaskDistillError:
    first, second = (
        f"member {found.member.name!r} of {found.told}"
        for number, found in enumerate(members, 1)
        if number in same
    )
    return MaskDistillError(
        f"results of {first} and of {second} would overwrite each other: one name occurs twice, or "
        "one is called like the folder of the other's results; pack the archive again"
    )

"""Names of clusters: the file is checked, and names go where outputs are shown."""

from pathlib import Path
from typing import Any

import pytest

from maskdistill.annotations.names import ClusterNames, named_categories, parse_names, read_names
from maskdistill.runtime.errors import MaskDistillError


def test_a_file_as_the_report_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text('# Names\nclusters: 3\nsizes: [4, 0, 2]\nnames:\n  2: "b: \\"x\\" ü"\n  0: mushroom\n')
    found = read_names(path, 3)
    assert found == ClusterNames({0: "mushroom", 2: 'b: "x" ü'}, [4, 0, 2])
    assert found.fit([4, 0, 2]) and not found.fit([4, 1, 1])
    assert ClusterNames({}).fit([1]) and parse_names({"names": {}}, "x", 3).names == {}


def test_categories_keep_their_numbers() -> None:
    assert named_categories(3, {1: "mug"}) == [
        {"id": 1, "name": "cluster-00"}, {"id": 2, "name": "mug"}, {"id": 3, "name": "cluster-02"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "no names in it"),
        ([1], "no names in it"),
        ({0: "mug"}, "no names in it"),
        ({"names": {0: "a"}, "seed": 1}, "unknown entries seed"),
        ({"names": {3: "a"}}, "3 is no cluster: they are numbered from 0 to 2"),
        ({"names": {-1: "a"}}, "-1 is no cluster"),
        ({"names": {"0": "a"}}, "'0' is no cluster"),
        ({"names": {True: "a"}}, "True is no cluster"),
        ({"names": {1: 7}}, "name of cluster 1 is 7, not text: put it in quotes"),
        ({"names": {1: "  "}}, "1 to 100 printable characters"),
        ({"names": {1: "a\x00b"}}, "1 to 100 printable characters"),
        ({"names": {1: "a" * 101}}, "1 to 100 printable characters"),
        ({"names": {}, "clusters": 20}, "it names clusters of 20, and this run has 3"),
        ({"names": {}, "sizes": [1, 2]}, "sizes must be 3 whole numbers"),
    ],
)
def test_what_is_wrong_is_named(values: Any, message: str) -> None:
    with pytest.raises(MaskDistillError, match=r"names\.yaml: ") as caught:
        parse_names(values, "names.yaml", 3)
    assert message in str(caught.value) and "save it anew" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"{: [", "YAML"), (b"\xff\xfe\x00", "YAML")]
)
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "n.yaml").write_bytes(content)
    with pytest.raises(MaskDistillError, match=message):
        read_names(tmp_path / "n.yaml", 3)

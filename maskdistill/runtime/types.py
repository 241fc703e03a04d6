"""What every artefact contains."""

from typing import Any, NotRequired, TypedDict


class Provenance(TypedDict):
    """What an artefact was made from, as :func:`maskdistill.runtime.provenance.make_provenance` writes it.

    Attributes:
        stage: its name.
        params: the settings that affected the result, JSON values by name.
        inputs: SHA-256 of the files that were read, by name.
        version: of maskdistill.
        libraries: versions by name.
        oracle: what was replaced by the ground truth; only in an oracle's artefacts.
    """

    stage: str
    params: dict[str, Any]
    inputs: dict[str, str]
    version: str
    libraries: dict[str, str]
    oracle: NotRequired[str]

"""Models of pictures and words of open_clip: the one place that touches the library (extra ``names``).

Cherti et al. 2023, "Reproducible scaling laws for contrastive language-image learning"; the models are used
as Radford et al. 2021, "Learning transferable visual models from natural language supervision", classify:
a softmax over cosines, of words averaged over several sentences.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maskdistill.product.hub import NoConnection, one_question
from maskdistill.report.montage import Rgb
from maskdistill.runtime.errors import MaskDistillError

MODEL, WEIGHTS = "ViT-B-32", "laion2b_s34b_b79k"
"""What is taken where nothing is named: 605 MB."""
SENTENCES = (
    "a photo of a {}", "a close-up photo of a {}", "a cropped photo of a {}", "a picture of the {}",
)  # fmt: skip
BATCH = 64
IN_HUB = "hf-hub:"
ELSEWHERE = (IN_HUB, "local-dir:")
"""Beginnings of models that bring their weights along."""
FILES = (".safetensors", ".pt", ".pth", ".bin")
HUB = "https://huggingface.co"


def need_open_clip() -> None:
    """Refuse before any work where the library is missing."""
    if find_spec("open_clip") is None:
        raise MaskDistillError(
            "names needs open_clip, which is not installed: pip install 'maskdistill[names]' (in a checkout: "
            "make names)"
        )


@dataclass(frozen=True)
class Clip:
    """A model in use.

    Attributes:
        network: of open_clip, in evaluation mode.
        prepare: picture -> float32 (3, side, side), as the network wants it.
        tokenize: texts -> int64 (n, length).
        side: of its pictures, in pixels.
        device: that it computes on.
    """

    network: Any
    prepare: Callable[[Image.Image], Tensor]
    tokenize: Callable[[list[str]], Tensor]
    side: int
    device: torch.device

    @torch.inference_mode()
    def words(self, words: Sequence[str]) -> Tensor:
        """Directions of words, float32 (W, D) of length 1: each the mean over :data:`SENTENCES`."""
        found = []
        step = max(1, BATCH // len(SENTENCES))
        for first in range(0, len(words), step):
            part = words[first : first + step]
            tokens = self.tokenize([text.format(word) for word in part for text in SENTENCES])
            vectors = self.network.encode_text(tokens.to(self.device), normalize=True).float()
            found.append(vectors.unflatten(0, (len(part), len(SENTENCES))).mean(dim=1))
        return torch.nn.functional.normalize(torch.cat(found), dim=-1)

    @torch.inference_mode()
    def similarities(self, pictures: Sequence[Rgb], words: Tensor) -> NDArray[np.float64]:
        """How alike pictures and words are, (N, W): cosines times the scale that the model has learnt.

        Args:
            pictures: uint8 (side, side, 3) each.
            words: of :meth:`words`.
        """
        batch = torch.stack([self.prepare(Image.fromarray(picture)) for picture in pictures])
        vectors = self.network.encode_image(batch.to(self.device), normalize=True).float()
        scaled = self.network.logit_scale.exp().float() * vectors @ words.T
        return np.asarray(scaled.cpu().numpy(), dtype=np.float64)

    def digest(self) -> str:
        """SHA-256 of the network's tensors, in the order of their names."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()


def load_clip(model: str, weights: str | None, device: torch.device) -> Clip:
    """Load a model with trained weights, downloading them where a tag of open_clip stands for them.

    Nothing in a file is executed: safetensors, or torch's ``weights_only``.

    Args:
        model: a name that open_clip has, or a folder or repository of its own (:data:`ELSEWHERE`).
        weights: a tag of open_clip, or a file; None for :data:`WEIGHTS`, or for what ``model`` brings along.
        device: to compute on.

    Raises:
        MaskDistillError: the library, the model or the weights are missing, or do not fit.
    """
    need_open_clip()
    import open_clip

    weights, tokenize = _checked(model, weights), None
    try:
        with _quiet(), one_question() if model.startswith(IN_HUB) else nullcontext():
            if weights:
                tokenize = open_clip.get_tokenizer(model)  # where it lacks a library nothing is downloaded
                _fetch(model, weights)
            network, prepare = open_clip.create_model_from_pretrained(
                model, weights, device=device, weights_only=True, pretrained_text=False
            )
            tokenize = tokenize or open_clip.get_tokenizer(model)
    except MaskDistillError:
        raise
    except NoConnection as error:
        raise MaskDistillError(_not_here(model, error, _by_hand(model.removeprefix(IN_HUB)))) from None
    except Exception as error:  # the library raises a dozen unrelated types on damaged or missing files
        raise MaskDistillError(_unusable(model, weights, error)) from None
    if not all(bool(torch.isfinite(values).all()) for values in network.parameters()):
        raise MaskDistillError(f"{weights or model}: holds NaN or infinity; fetch it again")
    size = network.visual.image_size
    side = int(size if isinstance(size, int) else max(size))
    return Clip(network.eval(), prepare, tokenize, side, device)


def card(model: str, weights: str | None) -> str:
    """Where the licence of the weights is told."""
    import open_clip

    if model.startswith(IN_HUB):
        return f"{HUB}/{model.removeprefix(IN_HUB)}"
    repository = _repository(open_clip.get_pretrained_cfg(model, _default(model, weights) or ""))
    return f"{HUB}/{repository}" if repository else "the card or page that the weights come from"


def _repository(tag: dict[str, Any]) -> str:
    """Repository of a tag at Hugging Face; empty where it has none."""
    return "/".join(tag.get("hf_hub", "").split("/")[:2])


def _default(model: str, weights: str | None) -> str | None:
    return WEIGHTS if weights is None and model == MODEL else weights


def _checked(model: str, weights: str | None) -> str | None:
    """The weights that are meant.

    Raises:
        MaskDistillError: no such model, weights for a model that brings its own, or none that there are.
    """
    import open_clip

    if model.startswith(ELSEWHERE):
        if weights:
            raise MaskDistillError(
                f"--weights {weights}: {model} brings its own weights; leave one of both out"
            )
        return None
    if model not in open_clip.list_models():
        near = get_close_matches(model, open_clip.list_models(), cutoff=0.5)
        raise MaskDistillError(
            f"--model {model}: open_clip has no such model; there are {', '.join(near) or MODEL} and others "
            "(open_clip.list_models()), hf-hub:OWNER/NAME and local-dir:FOLDER"
        )
    weights = _default(model, weights)
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
    if weights is None:
        raise MaskDistillError(f"--model {model}: name its --weights: a file, or one of these tags: {tags}")
    if not open_clip.is_pretrained_cfg(model, weights):
        if not Path(weights).is_file():
            raise MaskDistillError(
                f"--weights {weights}: neither a file nor a tag of {model}; its tags are: {tags}"
            )
        if Path(weights).suffix not in FILES:
            raise MaskDistillError(f"--weights {weights}: give a file that ends in {', '.join(FILES)}")
    return weights


def _fetch(model: str, weights: str) -> None:
    """Have a tag's weights on this machine, where open_clip keeps them; a file is there already.

    Raises:
        MaskDistillError: they are not there and cannot be downloaded.
    """
    import open_clip

    found = open_clip.get_pretrained_cfg(model, weights)
    repository, source = _repository(found), f"weights {weights} of {model}"
    by_hand = _by_hand(repository) if repository else f"fetch {found.get('url')} and give it as --weights"
    try:
        with one_question() if repository else nullcontext():
            open_clip.download_pretrained(found)
    except NoConnection as error:
        raise MaskDistillError(_not_here(source, error, by_hand)) from None
    except Exception as error:  # of the network, the hub's library, or the disk
        raise MaskDistillError(
            f"{source}: cannot be downloaded ({_first_line(error)}). Try again later, or {by_hand}"
        ) from None


def _not_here(source: str, error: NoConnection, by_hand: str) -> str:
    """What to say where there is no network."""
    return (
        f"{source}: not on this machine, and there is no connection to {error}. Try again later, or {by_hand}"
    )


def _by_hand(repository: str) -> str:
    """How a repository's model comes to a machine without a network."""
    return (
        f"where there is a network: hf download {repository} open_clip_config.json "
        "open_clip_model.safetensors --local-dir FOLDER; then here, with a copy of that folder: --model "
        "local-dir:FOLDER, without --weights"
    )


def _unusable(model: str, weights: str | None, error: Exception) -> str:
    """What to say of a model that cannot be loaded."""
    source = f"weights {weights} of {model}" if weights else model
    if isinstance(error, ImportError) or "transformers" in str(error):
        return (
            f"{model}: wants a library that is not installed ({_first_line(error)}); install it, or take "
            "another --model"
        )
    remedy = "give other weights, or fetch them again"
    if model.startswith(IN_HUB):
        remedy = _by_hand(model.removeprefix(IN_HUB))
    return (
        f"{source}: missing, damaged, of another model, or more than tensors (nothing in it was executed): "
        f"{_first_line(error)}; {remedy}"
    )


def _first_line(error: Exception) -> str:
    """The beginning of what a library says, with the type of what it raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["nothing said"]
    return f"{type(error).__name__}: {shorten(lines[0], 200, placeholder=' ...').rstrip(':')}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's account of its loading, which goes to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)

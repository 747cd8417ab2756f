"""Save a trained model in a folder, load it again or from the hub by name: without Lightning or unpickling."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stalign_pl.batch.embeddings import Embeddings
from stalign_pl.errors import ConfigError
from stalign_pl.export.architecture import ROLES, Architecture
from stalign_pl.export.folder import CARD, FILES, PROVENANCE, WEIGHTS, LeftOut, ModelDescription, replace_folder
from stalign_pl.export.preparation import Preparation, SlideSpots
from stalign_pl.files import write_json
from stalign_pl.hub_errors import explain_hub_error
from stalign_pl.models.frozen import Source
from stalign_pl.models.stalign import STAlign
from stalign_pl.models.weights import load_tensors, read_tensors

HUB_NAME = re.compile(r"(?!.*(\.\.|--))[A-Za-z0-9]([\w.-]*\w)?/[A-Za-z0-9]([\w.-]*\w)?")


@dataclass(frozen=True)
class PretrainedModel:
    """An exported model, ready for a slide's images and counts.

    Attributes:
        model: in eval mode.
        preparation: of its input.
    """

    model: STAlign
    preparation: Preparation

    def embed(self, spots: SlideSpots, batch: int = 64) -> Embeddings:
        """Embed a slide's spots, on the model's device.

        Args:
            spots: images and raw counts of N spots.
            batch: spots in one forward pass, at least 1.

        Returns:
            Embeddings [N, D] on the CPU, in the order of the spots.

        Raises:
            ConfigError: a model in train mode, or a batch below 1; see also `Preparation.batches`.
        """
        if self.model.training:
            raise ConfigError("the model is in train mode: call model.eval()")
        if batch < 1:
            raise ConfigError(f"batch is {batch}; at least 1 spot at once is wanted")
        device = next(self.model.parameters()).device
        with torch.no_grad():
            parts = [
                vars(self.model(inputs.to(device)))
                for inputs in self.preparation.batches(spots, self.model.genes, batch)
            ]
        joined = {
            name: None if value is None else torch.cat([part[name] for part in parts]).cpu()
            for name, value in parts[0].items()
        }
        return Embeddings(**joined)


def save_pretrained(
    model: STAlign,
    folder: Path,
    architecture: Architecture,
    preparation: Preparation,
    card: str,
    provenance: Mapping[str, Any],
    include_frozen: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a model's folder (see `export.folder`), all files or none.

    Args:
        model: to save.
        folder: to write.
        architecture: what the model was built from.
        preparation: of the model's input.
        card: the text of README.md.
        provenance: of provenance.json.
        include_frozen: also write the weights of frozen encoders that have a source.
        overwrite: replace an earlier export.

    Raises:
        ConfigError: an architecture other than the model's; see also `replace_folder`.
    """
    from safetensors.torch import save_file

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    frozen = () if include_frozen else model.frozen_prefixes
    left = {key: value for key, value in state.items() if frozen and key.startswith(frozen)}
    left_out = {
        stream: LeftOut(_published_source(architecture, stream), hash_tensors(_select(stream, left)))
        for stream in sorted({key.partition(".")[0] for key in left})
    }
    detached = {
        role: getattr(model, role).detach_weights(part.arguments)
        for role, part in architecture.parts.items()
        if part is not None and part.encoder is not None
    }
    description = ModelDescription(architecture.with_arguments(detached), preparation, model.genes, left_out)
    with replace_folder(folder, overwrite) as made:
        save_file({key: value for key, value in state.items() if key not in left}, made / WEIGHTS, {"format": "pt"})
        description.write(made)
        for role, part in architecture.parts.items():
            if part is not None and part.published_folder is not None:
                (made / role).mkdir()
                for name in part.published_folder.COMPANIONS:
                    shutil.copyfile(Path(part.arguments["folder"]) / name, made / role / name)
        (made / CARD).write_text(card, encoding="utf-8")
        write_json(made / PROVENANCE, dict(provenance))


def from_pretrained(
    folder: str | Path, sources: Mapping[str, str] | None = None, revision: str | None = None
) -> PretrainedModel:
    """Load an exported model, in eval mode, on the CPU.

    A frozen encoder that was left out is fetched from its source, and must be the same bit for bit.

    Args:
        folder: of an export, or OWNER/NAME on the hub.
        sources: stream -> file (or folder) with the weights that were left out of it, in place of their own source.
        revision: of the repository on the hub.

    Raises:
        ConfigError: there is no such model; a file of it is damaged, of another format version or of another export;
            weights are missing, extra or of another shape; or an encoder that was left out cannot be fetched.
    """
    if not isinstance(sources or {}, Mapping):
        raise ConfigError(f"sources is {sources!r}; a mapping of streams to files is wanted: {{stream: FILE}}")
    folder = _find_folder(folder, revision)
    description = ModelDescription.read(folder)
    with torch.random.fork_rng(devices=[]):  # the first weights are all replaced
        model = _attach(description, sources or {}, folder).build(description.panel)
    frozen = model.frozen_prefixes
    own = {key: value for key, value in model.state_dict().items() if frozen and key.startswith(frozen)}
    for stream, left in description.left_out.items():
        found = hash_tensors(_select(stream, own))
        if found != left.sha256:
            raise ConfigError(
                f"{folder}: {stream} was trained with other weights of {left.source.name} than were found here: their "
                f"hash is {found[:12]}, not {left.sha256[:12]}. Name the right file: sources={{{stream!r}: FILE}}"
            )
    tensors = read_tensors(folder / WEIGHTS)
    if twice := sorted(tensors.keys() & own.keys()):
        raise ConfigError(f"{folder / WEIGHTS} holds {twice[0]}, which its config.json says was left out")
    load_tensors(model, tensors | own, folder / WEIGHTS, f"{WEIGHTS} and config.json must be of one export")
    return PretrainedModel(model.eval(), description.preparation)


def check_hub_name(name: str) -> None:
    """Check the name of a repository on the hub.

    Raises:
        ConfigError: not OWNER/NAME.
    """
    if not HUB_NAME.fullmatch(name):
        raise ConfigError(f"--push {name}: OWNER/NAME is wanted")


def push(folder: Path, name: str, private: bool) -> str:
    """Upload an exported folder to the hub, as the user who is logged in on this machine.

    Args:
        folder: of the export.
        name: OWNER/NAME on the hub.
        private: make a new repository private.

    Returns:
        Address of its page.

    Raises:
        ConfigError: a name that is not OWNER/NAME, or an upload that the hub refused.
    """
    from huggingface_hub import HfApi

    check_hub_name(name)
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Add the exported model")
    except Exception as error:  # of the hub's client, or of its HTTP library, which differs between versions
        raise ConfigError(
            f"{folder} is written, but the hub did not take it as {name} ({error}). Log in with `hf auth login` as "
            f"someone who may write there, and push the folder: hf upload {name} {folder}"
        ) from error
    return f"https://huggingface.co/{name}"


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes, sorted by name."""
    total = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        total.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _published_source(architecture: Architecture, stream: str) -> Source:
    """Return the source of a stream's first weights; of a file only the name, since paths are of this machine."""
    part = architecture.parts.get(stream)
    source = None if part is None else part.source()
    if source is None:
        raise ConfigError(f"{stream} of the model has weights from a source, and its architecture names none")
    return source if source.on_hub else Source(Path(source.name).name, on_hub=False)


def _select(stream: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.startswith(f"{stream}.")}


def _attach(description: ModelDescription, sources: Mapping[str, str], folder: Path) -> Architecture:
    """Return the architecture with its files in `folder`, and the sources of the weights that were left out."""
    unknown = sorted(sources.keys() - description.left_out.keys())
    if unknown:
        known = ", ".join(description.left_out) or "none"
        raise ConfigError(f"sources names {', '.join(unknown)}; streams whose weights were left out: {known}")
    arguments = {
        role: part.published_folder.set_folder(part.arguments, folder / role)
        for role, part in description.architecture.parts.items()
        if part is not None and part.published_folder is not None
    }
    for stream, left in description.left_out.items():
        source = Source(sources[stream], on_hub=False) if stream in sources else left.source
        if stream not in sources and not source.on_hub:
            raise ConfigError(
                f"the weights of {stream} were left out of this export; they were read from a file {source.name}. Name "
                f"that file: from_pretrained(..., sources={{{stream!r}: FILE}})"
            )
        part = description.architecture.parts[stream]
        if part is None or part.encoder is None:
            raise ConfigError(f"{folder}: left_out names {stream}, a part that never starts with published weights")
        arguments[stream] = part.encoder.attach_weights(part.arguments, source)
    return description.architecture.with_arguments(arguments)


def _find_folder(folder: str | Path, revision: str | None) -> Path:
    """Return the folder itself, or the hub's copy in the local cache."""
    if Path(folder).is_dir():
        return Path(folder)
    if not HUB_NAME.fullmatch(str(folder)):
        raise ConfigError(f"there is no folder {folder}; a name on the hub is OWNER/NAME")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(str(folder), revision=revision, allow_patterns=[*FILES, *(f"{role}/*" for role in ROLES)])
        )
    except OSError as error:
        why = explain_hub_error(error, str(folder)) or str(error)
        raise ConfigError(
            f"there is no folder {folder}, and the hub did not hand out a model {folder}: {why}"
        ) from error

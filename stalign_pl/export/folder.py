"""An exported model's folder: its files, written all or none, and read without unpickling.

model.safetensors   weights; those of frozen encoders that have a source only if requested
config.json         format version; classes and arguments; preparation of the input; source and hash of left-out weights
genes.tsv           the gene panel: symbol, Ensembl id, mean, sd, share
README.md           the model card
provenance.json     versions, and hashes of configuration, data and split
<stream>/           files that a gene encoder needs beside its weights (scGPT's vocabulary)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stalign_pl.batch.gene_panel import GenePanel
from stalign_pl.data.pictures.colour import SlideColour
from stalign_pl.errors import ConfigError
from stalign_pl.export.architecture import ROLES, Architecture
from stalign_pl.export.preparation import Preparation
from stalign_pl.files import write_json
from stalign_pl.models.frozen import Source
from stalign_pl.typed import read_arguments

FORMAT_VERSION = 1
WEIGHTS, CONFIG, GENES, CARD, PROVENANCE = FILES = (
    *("model.safetensors", "config.json", "genes.tsv", "README.md", "provenance.json"),
)
COLUMNS = ("symbol", "ensembl_id", "mean", "sd", "share")
KEYS = ("format_version", "model", "preparation", "left_out", "genes")


@dataclass(frozen=True)
class LeftOut:
    """Weights of a frozen encoder that are not in the folder.

    Attributes:
        source: where they come from; of a file only its name.
        sha256: of the tensors, see `pretrained.hash_tensors`.
    """

    source: Source
    sha256: str


@dataclass(frozen=True)
class ModelDescription:
    """Content of config.json and genes.tsv.

    Attributes:
        architecture: of the model.
        preparation: of its input.
        panel: its genes.
        left_out: stream -> its weights that are not in the folder.
    """

    architecture: Architecture
    preparation: Preparation
    panel: GenePanel
    left_out: Mapping[str, LeftOut]

    def write(self, folder: Path) -> None:
        """Write config.json and genes.tsv."""
        preparation = asdict(self.preparation)
        del preparation["share"]
        colour = self.preparation.colour
        preparation["colour"] = colour and {"mean": colour.mean.tolist(), "sd": colour.sd.tolist()}
        value = {
            "format_version": FORMAT_VERSION,
            "model": self.architecture.to_json(),
            "preparation": preparation,
            "left_out": {stream: asdict(left) for stream, left in self.left_out.items()},
            "genes": {"number": len(self.panel), "sha256": self.panel.digest()},
        }
        write_json(folder / CONFIG, value)
        panel = self.panel
        columns = zip(panel.symbols, panel.ids, panel.mean, panel.sd, self.preparation.share, strict=True)
        lines = [f"{symbol}\t{gene}\t{mean:.9g}\t{sd:.9g}\t{share:.17g}\n" for symbol, gene, mean, sd, share in columns]
        (folder / GENES).write_text("\t".join(COLUMNS) + "\n" + "".join(lines), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelDescription:
        """Read config.json and genes.tsv.

        Raises:
            ConfigError: a file that is missing or malformed, another format version, keys that are missing or unknown,
                or a gene list other than the one that config.json was written with.
        """
        path = folder / CONFIG
        if not path.is_file():
            raise ConfigError(f"{folder} is no exported model: it has no {CONFIG}. See: python -m stalign_pl export")
        value = _read_json(path)
        if value.get("format_version") != FORMAT_VERSION:
            raise ConfigError(
                f"{path} has format version {value.get('format_version')!r}, this program reads {FORMAT_VERSION}. "
                f"Export the model again, or install the version that wrote it"
            )
        if value.keys() != set(KEYS):
            missing, extra = sorted(set(KEYS) - value.keys()), sorted(value.keys() - set(KEYS))
            raise ConfigError(f"{path}: missing keys {missing}, unknown keys {extra}")
        try:
            panel, share = _read_genes(folder / GENES)
            if panel.digest() != value["genes"]["sha256"]:
                raise ConfigError(
                    f"{folder / GENES} is not the gene list that {path} was written with: its hash is "
                    f"{panel.digest()[:12]}, not {value['genes']['sha256'][:12]}. Take both files from one export"
                )
            given = dict(value["preparation"])
            colour = given.pop("colour")
            colour = colour and SlideColour(*(np.array(colour[name], np.float32) for name in ("mean", "sd")))
            typed = read_arguments(Preparation, given, f"{path}: preparation", ("colour", "share"))
            left_out = {
                stream: LeftOut(Source(**left["source"]), left["sha256"]) for stream, left in value["left_out"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{path} is not as an export writes it: {error!r}") from error
        preparation = Preparation(**typed, colour=colour, share=share)
        architecture = Architecture.from_json(value["model"])
        parts = [role for role, part in architecture.parts.items() if part is not None]
        if unknown := sorted(left_out.keys() - parts):
            raise ConfigError(f"{path}: left_out names {', '.join(unknown)}; the model's parts: {', '.join(parts)}")
        return cls(architecture, preparation, panel, left_out)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} should hold an object, holds {type(value).__name__}")
    return value


def _read_genes(path: Path) -> tuple[GenePanel, np.ndarray]:
    """Return the panel and the genes' shares, float64 [G]."""
    if not path.is_file():
        raise ConfigError(f"there is no {path}; an exported model has one")
    try:
        head, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    except ValueError as error:  # not UTF-8, or empty
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if tuple(head) != COLUMNS or not rows or any(len(row) != len(COLUMNS) for row in rows):
        raise ConfigError(f"{path}: should have the columns {', '.join(COLUMNS)} and a line a gene")
    symbols, ids, mean, sd, share = zip(*rows, strict=True)
    return GenePanel(symbols, ids, np.array(mean, np.float32), np.array(sd, np.float32)), np.array(share, np.float64)


@contextmanager
def replace_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; moves it to `folder` if the block succeeds, else removes it.

    Args:
        folder: to write.
        overwrite: replace an earlier export.

    Raises:
        ConfigError: `folder` exists and `overwrite` is false, or it holds files that no export writes.
    """
    if folder.exists():
        if not overwrite:
            raise ConfigError(f"{folder} exists; name another folder, or overwrite it (--overwrite)")
        others = sorted({path.name for path in folder.iterdir()} - {*FILES, *ROLES}) if folder.is_dir() else ["a file"]
        if others:
            raise ConfigError(f"{folder} is not overwritten: it holds {', '.join(others[:5])}, which is no export's")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        made = Path(name) / "new"
        made.mkdir()
        yield made
        if folder.exists():
            folder.rename(Path(name) / "old")
        made.rename(folder)

"""Slide -> tar(s), h5ad, counts, index, panel and record. Each file appears whole or not at all, the record last."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.images import Pixels
from data_prep.shards.h5ad import write_h5ad
from data_prep.shards.niches import find_neighbors
from data_prep.shards.samples import SlideSamples, encode_npy, gather_samples
from data_prep.shards.settings import BuildSettings, CropSettings
from data_prep.shards.tars import draw_order, write_tars
from data_prep.slide.genes import GeneAxis, GeneNames, spread_counts
from data_prep.slide.quality import ImageQuality
from data_prep.slide.slide import Slide
from stalign_pl.files import replace_file, sweep_temporary, write_json
from stalign_pl.shard_format import SlideRecord, make_file_stem


def write_slide(
    out: Path,
    number: int,
    slide: Slide,
    pixels: Pixels,
    picture: np.ndarray,
    quality: ImageQuality,
    axis: GeneAxis,
    study_panel: np.ndarray,
    settings: BuildSettings,
    crops: CropSettings,
) -> SlideRecord:
    """Write one slide's files into a set. The same slide and settings give the same bytes.

    Args:
        number: the slide's number in the set.
        slide: validated and curated.
        pixels: the slide's open image.
        picture: its thumbnail, uint8 [h, w, 3].
        axis: the set's gene table; knows every column of the slide.
        study_panel: int [n], sorted gene indices of all slides of the same source entry: what a slide measured
            whose files leave out genes that were not seen (`absent_is_zero`).

    Raises:
        SlideError: a part of the image that a crop needs is damaged.
    """
    columns = axis.columns(GeneNames(tuple(slide.gene_ids), tuple(slide.gene_symbols)))
    measured = np.asarray(study_panel if slide.absent_is_zero else np.unique(columns), np.int32)
    counts = spread_counts(measured, columns, slide.counts)
    neighbors = find_neighbors(slide, settings.neighbors)
    samples = gather_samples(slide, pixels, counts, measured, neighbors, crops)

    stem = make_file_stem(slide.name)
    sweep_temporary(out, *list_file_patterns(stem))
    panel = write_panel(out, measured)
    order = draw_order(len(slide), settings.seed, slide.name)
    tars, index = write_tars(out, stem, number, samples, order, settings.part_spots)
    record = _make_record(slide, quality, number, stem, samples, panel, len(measured), tars)
    with replace_file(out / record.counts) as temporary, open(temporary, "wb") as file:
        samples.write_pairs(file)
    _write_bytes(out / record.index, encode_npy(index))
    write_h5ad(out / record.h5ad, slide, picture, pixels.width, counts, measured, axis.table, neighbors)
    names = (*tars, record.h5ad, record.counts, record.index, panel)
    record = replace(record, files={name: describe_file(out / name) for name in names})
    write_json(out / f"{stem}.json", record.to_json())
    return record


def list_file_patterns(stem: str) -> tuple[str, ...]:
    """List the names of one slide's own files, `*` for any number of a part; the record first."""
    ends = (".json", ".tar", "-part*.tar", ".h5ad", ".counts.npy", ".index.npy")
    return tuple(f"{stem}{end}" for end in ends)


def write_panel(out: Path, measured: np.ndarray) -> str:
    """Write the measured gene indices, named by their hash, unless they are there: slides on one panel share a file."""
    payload = encode_npy(np.asarray(measured, np.int32))
    name = f"panel-{hashlib.sha256(payload).hexdigest()[:12]}.npy"
    path = out / name
    if not path.is_file() or path.read_bytes() != payload:
        _write_bytes(path, payload)
    return name


def describe_file(path: Path) -> dict[str, int | str]:
    """Describe a file by size and SHA-256, as a record lists them."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _write_bytes(path: Path, payload: bytes) -> None:
    with replace_file(path) as temporary:
        temporary.write_bytes(payload)


def _make_record(
    slide: Slide,
    quality: ImageQuality,
    number: int,
    stem: str,
    samples: SlideSamples,
    panel: str,
    measured: int,
    tars: tuple[str, ...],
) -> SlideRecord:
    return SlideRecord(
        number=number,
        name=slide.name,
        stem=stem,
        source=slide.source,
        patient=slide.patient,
        patient_from=slide.patient_from,
        study=slide.study,
        species=slide.species,
        tissue=slide.tissue,
        technology=slide.technology,
        licence=slide.licence,
        spots=len(slide),
        measured_genes=measured,
        panel=panel,
        labels={column: len(set(values) - {""}) for column, values in slide.labels.items()},
        lattice=slide.lattice,
        pitch_um=slide.pitch_um,
        um_per_px=slide.um_per_px,
        um_per_px_claims=dict(slide.um_per_px_claims),
        image=slide.image.kind,
        image_um_per_px=slide.um_per_px / slide.image.scale,
        spot_um=samples.spot.side_um,
        niche_um=samples.niche.side_um,
        spot_px=samples.spot.stored_px,
        niche_px=samples.niche.stored_px,
        spot_format=samples.spot.format,
        niche_format=samples.niche.format,
        ring_members=samples.neighbors.ring_members,
        outside=round(float(samples.outside.mean()), 6),
        on_tissue=quality.on_tissue,
        sharpness=quality.sharpness,
        notes=slide.notes,
        tars=tars,
    )

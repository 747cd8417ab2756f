"""The model card: the model, its training data, its results beside baselines, its limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from stalign_pl.data.niches.members import DEPTH_CAP
from stalign_pl.data.niches.of_slide import SLACK
from stalign_pl.export.licences import EncoderTerms
from stalign_pl.export.preparation import Preparation

TAGS = ("spatial-transcriptomics", "histopathology", "contrastive-learning", "biology")


@dataclass(frozen=True)
class DataSource:
    """Training slides of one source, licence, species and technology.

    Attributes:
        source: where the slides come from, "" if unknown.
        licence: of the data, "" if unknown.
        species: "" if unknown.
        technology: "" if unknown.
        slides: number of slides.
        patients: number of patients.
        studies: number of studies.
        spots: number of spots.
    """

    source: str
    licence: str
    species: str
    technology: str
    slides: int
    patients: int
    studies: int
    spots: int


@dataclass(frozen=True)
class ModelFacts:
    """Facts that a card states.

    Attributes:
        name: of the run.
        licence: the hub's identifier of the licence of the whole (apache-2.0, cc-by-4.0, other ...).
        version: of this program.
        step: of training.
        averaged: whether the weights are an exponential average.
        genes: number of genes in the panel.
        dim: width of the unimodal embeddings.
        fused: width of the fused embeddings; 0 without a fusion.
        preparation: of the model's input.
        data: the training slides.
        parts: train, val and test -> (slides, patients).
        marks: caveats that every table of the split must state.
        encoders: licences of encoders that started with published weights.
        tables: Markdown, results of these weights; "" if there are none.
        untold: why splits have no table, a sentence each.
    """

    name: str
    licence: str
    version: str
    step: int
    averaged: bool
    genes: int
    dim: int
    fused: int
    preparation: Preparation
    data: tuple[DataSource, ...]
    parts: dict[str, tuple[int, int]]
    marks: tuple[str, ...]
    encoders: tuple[EncoderTerms, ...]
    tables: str
    untold: tuple[str, ...]


def make_model_card(facts: ModelFacts) -> str:
    """Return the text of README.md, with the hub's front matter."""
    sections = (
        ("", _write_summary(facts)),
        ("Use", _write_use(facts)),
        ("Data", _write_data(facts)),
        ("Evaluation", _write_evaluation(facts)),
        ("Encoders and licences", _write_licences(facts)),
        ("Limits", _write_limits(facts)),
    )
    text = "\n".join(f"## {title}\n\n{section}" if title else section for title, section in sections)
    return _write_front_matter(facts) + text


def _write_front_matter(facts: ModelFacts) -> str:
    tags = "".join(f"- {tag}\n" for tag in TAGS)
    return f"---\nlicense: {json.dumps(facts.licence)}\nlibrary_name: stalign-pl\ntags:\n{tags}---\n\n"


def _write_summary(facts: ModelFacts) -> str:
    averaged = ", exponential average of the weights" if facts.averaged else ""
    fused = f"; fused spot and niche embeddings, {facts.fused} wide" if facts.fused else ""
    return (
        f"# {facts.name}\n\n"
        f"A multi-scale image-gene model of spatial transcriptomics (ST-Align, arXiv 2411.16793), trained with "
        f"stalign-pl {facts.version}, step {facts.step}{averaged}. From a spot's picture, its niche's picture and "
        f"both's counts over {facts.genes:,} genes it makes embeddings of each, {facts.dim} wide{fused}.\n"
    )


def _write_use(facts: ModelFacts) -> str:
    prepared, niche = facts.preparation, facts.preparation.niche
    members = "its whole rings" if niche.k is None else f"its {niche.k} nearest"
    own = "without the spot itself" if niche.leave_target_out else "the spot itself included"
    weighted = "" if niche.weights == "uniform" else f", {_describe_weights(niche.weights)}"
    weighted += (
        f", its counts weighed by the niche's mean depth over its own, at most {DEPTH_CAP}" if niche.even_depth else ""
    )
    picture = (
        "the bounding box of those spots' pictures"
        if niche.image == "box"
        else f"{_format_range(prepared.niche_um)} um wide"
    )
    near = (
        "tree = cKDTree(xy / pitch)                       # places on the array, in distances from a spot to the next\n"
        f'apart = tree.sparse_distance_matrix(tree, {niche.rings + SLACK:g}, output_type="coo_matrix")'
        f"{'' if niche.k is None else f'  # keep {niche.k} nearest: see sum_niche_counts'}\n"
    )
    return (
        "```python\n"
        "from scipy.spatial import cKDTree\n"
        "from stalign_pl.data.niches.of_slide import sum_niche_counts\n"
        "from stalign_pl.export.preparation import SlideSpots\n"
        "from stalign_pl.export.pretrained import from_pretrained\n\n"
        'model = from_pretrained("FOLDER")                # or "OWNER/NAME"; eval mode\n'
        f"{near}"
        "spots = SlideSpots(                              # one slide's\n"
        "    spot_image=spot_image,                       # uint8 [N, S, S, 3]\n"
        "    niche_image=niche_image,                     # uint8 [N, T, T, 3]\n"
        "    counts=counts,                               # raw, [N, M]\n"
        "    niche_counts=sum_niche_counts(counts, apart, model.preparation.niche),\n"
        "    genes=names,                                 # M symbols or Ensembl ids\n"
        ")\n"
        "embeddings = model.embed(spots)                  # .niche, .spot, .spot_image, ...: [N, D]\n"
        "```\n\n"
        f"Trained on spot pictures {_format_range(prepared.spot_um)} um wide, and niches of a spot with {members} "
        f"within {_format_count(niche.rings, 'ring')} ({own}{weighted}); a niche's picture is {picture}. Pictures of "
        f"any resolution are resized; genes that a slide did not measure are told to the model as such"
        f"{'' if prepared.colour is None else '; the colours of a slide are moved to those of the training slides'}.\n"
    )


def _describe_weights(weights: str | float | tuple[float, ...]) -> str:
    if isinstance(weights, tuple):
        return f"a spot of ring 1, 2, ... counts {', '.join(f'{weight:g}' for weight in weights)}, to sixteenths"
    if isinstance(weights, float):
        return f"each ring {weights:g} times the one inside it, to sixteenths"
    return f"weighted by {weights}"


def _write_data(facts: ModelFacts) -> str:
    lines = ["| source | licence | species | technology | slides | patients | studies | spots |", "|" + "---|" * 8]
    lines += [
        f"| {each.source or 'not stated'} | {each.licence or 'not stated'} | {each.species or 'not stated'} "
        f"| {each.technology or 'not stated'} | {each.slides} | {each.patients} | {each.studies} | {each.spots:,} |"
        for each in facts.data
    ]
    held = "; ".join(
        f"{part}: {_format_count(slides, 'slide')} of {_format_count(patients, 'patient')}"
        for part, (slides, patients) in facts.parts.items()
        if part != "train"
    )
    return "Trained on\n\n" + "\n".join(lines) + f"\n\nHeld out by patient: {held}.\n" + _format_bullets(facts.marks)


def _write_evaluation(facts: ModelFacts) -> str:
    text = "\n".join(f"{line}\n" for line in facts.untold)
    if not facts.tables:
        return text
    return (
        f"Rows beside `stalign` are floors with the same read-out on the same slides: a model that is not above them "
        f"has learned nothing that they lack. Choices were made on `val`.\n\n{facts.tables}\n{text}"
    )


def _write_licences(facts: ModelFacts) -> str:
    if not facts.encoders:
        return "No encoder began with published weights.\n"
    holds = {
        "left out": "frozen; not in this export, fetched from its source when the model is loaded",
        "as published": "frozen; **in this export, as published**",
        "trained further": "**in this export, trained further**",
    }
    lines = []
    for each in facts.encoders:
        source = f"[{each.name}]({each.page})" if each.page else each.name
        lines.append(f"{each.stream}: {source}, {each.licence or 'licence not known'}; {holds[each.holds]}")
    return _format_bullets(lines) + "\nThe licences of encoders and data hold for what was made from them.\n"


def _write_limits(facts: ModelFacts) -> str:
    technologies = sorted({each.technology or "unstated technology" for each in facts.data})
    species = sorted({each.species or "unstated species" for each in facts.data})
    patients = _format_count(facts.parts["train"][1], "patient")
    return _format_bullets(
        (
            "For research. Not for diagnosis or treatment, and validated for neither.",
            f"It saw {', '.join(species)} tissue by {', '.join(technologies)}, of {patients}; elsewhere "
            f"nothing is known of it.",
            "Neighbouring spots, sections of one patient and slides of one laboratory are alike: figures of held-out "
            "patients, above, are the ones that count, and few patients make them uncertain.",
            "Stain, scanner and sequencing depth are in the embeddings to an unmeasured degree.",
        )
    )


def _format_range(sides: tuple[float, float]) -> str:
    low, high = sides
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _format_count(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _format_bullets(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)

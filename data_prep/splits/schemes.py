"""Schemes: which slides train, validate and test. Pure functions of (slides, request): no file, no order, no clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from data_prep.slide.patients import PAPER_TEST_SLICES, find_dlpfc_slice
from data_prep.splits.units import SplitSlide, Tie, Unit, UnitName, find_ties, find_torn, group_units
from stalign_pl.errors import ConfigError, join_names
from stalign_pl.shard_format.split import PARTS, Fold, Part, Split, describe_patients, hash_slide_list

ONLY = "main"
"""Name of the fold of a scheme that has one."""

DEFAULT_SHARES = {"test": 0.2, "val": 0.1}

By = Literal["spots", "patients"]
Mappings = Mapping[str, Mapping[str, str]]
"""Fold -> slide or patient -> train, val, test or none."""


@dataclass(frozen=True)
class SplitRequest:
    """What the user asks for. Schemes that have no use for a setting refuse it or leave it alone, as their text says.

    Attributes:
        scheme: a name of SCHEMES.
        seed: of the random order.
        val: share of the whole, 0 to 1; None: the scheme's default.
        test: share of the whole, 0 to 1; None: the scheme's default.
        by: what the shares count.
        unit: what is never torn apart.
        hold_out_dlpfc: `patients`: the donors of the twelve DLPFC sections are in the test part, counted in its share.
        mapping: of the scheme `file`.
    """

    scheme: str = "patients"
    seed: int = 0
    val: float | None = None
    test: float | None = None
    by: By = "spots"
    unit: UnitName = "patient"
    hold_out_dlpfc: bool = True
    mapping: Mappings | None = None


Assignment = dict[str, str]
"""Slide -> part."""


def make_split(slides: Sequence[SplitSlide], request: SplitRequest) -> Split:
    """Divide slides by a scheme, and check that nothing which belongs together is torn apart.

    Raises:
        ConfigError: an unknown scheme, a share that is none or leaves a part empty, fewer patients than parts, a slide
            without patient, or a mapping that tears a patient apart.
    """
    if request.scheme not in SCHEMES:
        raise ConfigError(f"unknown scheme {request.scheme!r}; known: {', '.join(SCHEMES)}")
    for name in ("val", "test"):
        share = getattr(request, name)
        if share is not None and not 0 <= share < 1:
            raise ConfigError(f"--{name} is {share}; a share from 0 to below 1 is wanted")
    if (request.mapping is not None) != (request.scheme == "file"):
        raise ConfigError("a mapping goes with the scheme 'file', and that scheme needs one (--mapping FILE)")
    slides = sorted(slides, key=lambda slide: slide.name)
    found = find_ties(slides, request.unit)
    assignments = SCHEMES[request.scheme](group_units(slides, found), request)
    marks = describe_patients(slides)
    for name, part_of in assignments.items():
        broken = find_torn(found, part_of)
        if request.scheme == "paper":
            marks.insert(0, _write_paper_mark(found, part_of))
        elif broken:
            raise ConfigError(
                f"fold {name!r} is not disjoint by {request.unit}: {'; '.join(broken[:3])}"
                f"{f' and {len(broken) - 3} more' if len(broken) > 3 else ''}. Give them one part"
            )
    unit = "slide" if request.scheme == "paper" else request.unit
    return Split(
        scheme=request.scheme,
        seed=request.seed,
        unit=unit,
        options=_list_options(request),
        marks=tuple(marks),
        slides=len(slides),
        digest=hash_slide_list(slides, unit),
        folds={name: _make_fold(slides, part_of) for name, part_of in assignments.items()},
    )


def _list_options(request: SplitRequest) -> dict[str, float | str | bool]:
    if request.scheme == "leave_one_patient_out":
        return {"validation": request.val is None}
    if request.scheme != "patients":
        return {}
    return {**_fill_in_shares(request), "by": request.by, "hold_out_dlpfc": request.hold_out_dlpfc}


def _fill_in_shares(request: SplitRequest) -> dict[str, float]:
    given = {"test": request.test, "val": request.val}
    return {part: DEFAULT_SHARES[part] if share is None else share for part, share in given.items()}


def _write_paper_mark(found: Sequence[Tie], part_of: Assignment) -> str:
    """Write the caveat of the paper's split. A set may hold its six sections and none of their donors'."""
    shared = [tie.why for tie in found if find_torn([tie], part_of)]
    if not shared:
        return "held out by slide: the paper's split"
    donors = [why for why in shared if why.startswith("donor")]
    return f"not disjoint by patient: the paper's split ({join_names(donors or shared)} in train and test)"


def _make_fold(slides: Sequence[SplitSlide], part_of: Assignment) -> Fold:
    return Fold(*(Part.of(slide for slide in slides if part_of.get(slide.name) == part) for part in PARTS))


def _assign_slides(groups: Mapping[str, Sequence[Unit]]) -> Assignment:
    return {slide.name: part for part, group in groups.items() for unit in group for slide in unit.slides}


def split_by_patient(every: list[Unit], request: SplitRequest) -> dict[str, Assignment]:
    """Divide at random by patient, tissue by tissue.

    Within each tissue of as many patients as there are parts (the others are pooled), patients in seeded random order
    go to the test part as long as that brings it nearer to its share, then to validation; the rest trains. What one
    tissue lacks or has too much, the next makes up. So a patient larger than twice what is missing stays in training.
    """
    shares = _fill_in_shares(request)
    uncounted = [slide.name for unit in every for slide in unit.slides if slide.spots < 1]
    if request.by == "spots" and uncounted:
        raise ConfigError(f"the spots of {join_names(uncounted)} are not known: give shares of patients, --by patients")
    if sum(shares.values()) >= 1:
        raise ConfigError(f"--val {shares['val']} and --test {shares['test']} leave nothing to train on")
    parts = 1 + sum(share > 0 for share in shares.values())
    _refuse_a_single_patient(every)
    if len(every) < parts:
        raise ConfigError(
            f"{len(every)} patients ({join_names(_list_names(every))}) do not make {parts} parts. Set --val 0 or "
            f"--test 0, or use --scheme leave_one_patient_out"
        )
    forced = [unit for unit in every if unit.dlpfc and request.hold_out_dlpfc]
    test = [*forced, *_draw_units(every, set(_list_names(forced)), forced, shares["test"], parts, request)]
    val = _draw_units(every, set(_list_names(test)), [], shares["val"], parts, request)
    held = {*_list_names(test), *_list_names(val)}
    groups = {"train": [unit for unit in every if unit.name not in held], "val": val, "test": test}
    for part, group in groups.items():
        if not group and (part == "train" or shares[part] > 0):
            raise ConfigError(_explain_empty_part(part, every, forced, shares, request))
    return {ONLY: _assign_slides(groups)}


def _list_names(group: Sequence[Unit]) -> list[str]:
    return [unit.name for unit in group]


def _explain_empty_part(
    part: str, every: list[Unit], forced: list[Unit], shares: Mapping[str, float], request: SplitRequest
) -> str:
    if part == "train":
        why = f" after the DLPFC donors ({join_names(_list_names(forced))}) are held out" if forced else ""
        return (
            f"no patient is left to train on{why}: {len(every)} patients, --val {shares['val']}, --test "
            f"{shares['test']}. Give smaller shares{', or --no-hold-out-dlpfc' if forced else ''}"
        )
    total = sum(_weigh(unit, request.by) for unit in every)
    smallest = min(_weigh(unit, request.by) for unit in every) / total
    return (
        f"--{part} {shares[part]} of the {request.by} leaves {part} empty: the smallest of {len(every)} patients has "
        f"{smallest:.3f} of them. Give a larger share, 0 for no such part, or --by patients"
    )


def _weigh(unit: Unit, by: By) -> int:
    return unit.spots if by == "spots" else 1


def _draw_units(
    every: list[Unit], held: set[str], counted: list[Unit], share: float, parts: int, request: SplitRequest
) -> list[Unit]:
    """Draw units for one part: `share` of the weight of `every`, with `counted` in it already; none of `held`."""
    there = set(_list_names(counted))
    strata = _stratify(every, parts, request.by)
    wanted = [
        max(0.0, sum(_weigh(unit, request.by) * (share - (unit.name in there)) for unit in stratum))
        for stratum in strata
    ]
    # A tissue that holds more than its share already, as the brain may by its donors, leaves less to all the others.
    whole = sum(_weigh(unit, request.by) * (share - (unit.name in there)) for unit in every)
    scale = max(0.0, whole / sum(wanted)) if sum(wanted) else 0.0
    drawn, missing = [], 0.0
    for stratum, tissue_wanted in zip(strata, wanted, strict=True):
        missing += tissue_wanted * scale
        free = [unit for unit in stratum if unit.name not in held]
        for unit in sorted(free, key=lambda unit: _make_draw_key(request.seed, unit)):
            weight = _weigh(unit, request.by)
            if missing > 0 and weight <= 2 * missing:  # ends nearer to the share than without it
                drawn.append(unit)
                missing -= weight
    return drawn


def _stratify(every: list[Unit], parts: int, by: By) -> list[list[Unit]]:
    """Group units by tissue, the heaviest first; tissues with fewer patients than parts together at the end."""
    tissues: dict[str, list[Unit]] = {}
    for unit in every:
        tissues.setdefault(unit.tissue, []).append(unit)
    order = sorted(tissues, key=lambda name: (-sum(_weigh(unit, by) for unit in tissues[name]), name))
    large = [tissues[name] for name in order if len(tissues[name]) >= parts]
    pooled = [unit for name in order if len(tissues[name]) < parts for unit in tissues[name]]
    return large + ([pooled] if pooled else [])


def _make_draw_key(seed: int, unit: Unit) -> bytes:
    """Make a sort key in random order that depends on the seed and the unit alone, not on the other units."""
    return hashlib.sha256(f"{seed}\t{unit.name}".encode()).digest()


def _refuse_a_single_patient(every: list[Unit]) -> None:
    if len(every) == 1:
        raise ConfigError(
            f"all slides are of one patient ({every[0].name!r}), which cannot be divided. Where a study stands for its "
            f"patients, name them in a sheet (slides.csv) or under `patients:` of the source, and build again"
        )


def split_leave_one_out(every: list[Unit], request: SplitRequest) -> dict[str, Assignment]:
    """Make one fold a patient, named after it; the next patient by name, after the last the first, validates."""
    if request.test is not None or request.val not in (None, 0):
        raise ConfigError("leave_one_patient_out tests on one patient and validates on another: no shares, or --val 0")
    validates = request.val is None
    _refuse_a_single_patient(every)
    if len(every) < 2 + validates:
        hint = ". Without a validation patient two are enough: --val 0" if len(every) == 2 else ""
        raise ConfigError(f"{len(every)} patients do not make {2 + validates} parts{hint}")
    folds = {}
    for number, unit in enumerate(every):
        groups = {"test": [unit], "val": [every[(number + 1) % len(every)]] if validates else []}
        held = _list_names([*groups["test"], *groups["val"]])
        folds[unit.name] = _assign_slides({"train": [other for other in every if other.name not in held], **groups})
    return folds


def split_as_paper(every: list[Unit], request: SplitRequest) -> dict[str, Assignment]:
    """Hold out the paper's six DLPFC sections by slide; all other slides train, none validates."""
    if request.val or request.test is not None:
        raise ConfigError("the paper's split has its own test slides and no validation; --val and --test do not apply")
    slides = [slide for unit in every for slide in unit.slides]
    held = {
        slide.name: find_dlpfc_slice(slide.name)
        for slide in slides
        if find_dlpfc_slice(slide.name) in PAPER_TEST_SLICES
    }
    missing = [number for number in PAPER_TEST_SLICES if number not in held.values()]
    if missing:
        raise ConfigError(
            f"the paper's split holds out {', '.join(PAPER_TEST_SLICES)}; no slide's name has {', '.join(missing)}. "
            f"For what there is: --scheme leave_one_patient_out or patients"
        )
    if len(held) == len(slides):
        raise ConfigError("the slides are the paper's six test sections: none is left to train on")
    return {ONLY: {slide.name: "test" if slide.name in held else "train" for slide in slides}}


def split_by_mapping(every: list[Unit], request: SplitRequest) -> dict[str, Assignment]:
    """Give every slide the user's part, by its name or its patient's; 'none' leaves it out."""
    assert request.mapping is not None  # make_split sees to it
    slides = [slide for unit in every for slide in unit.slides]
    names = {name for slide in slides for name in (slide.name, slide.patient)}
    folds = {}
    for fold, given in request.mapping.items():
        wrong = sorted(set(given.values()) - {*PARTS, "none"})
        if wrong:
            raise ConfigError(f"mapping, fold {fold!r}: part {wrong[0]!r}; known: {', '.join(PARTS)}, none")
        unknown = sorted(given.keys() - names)
        if unknown:
            raise ConfigError(f"mapping, fold {fold!r}: no slide or patient of these names: {join_names(unknown)}")
        part_of = {slide.name: given.get(slide.name) or given.get(slide.patient) for slide in slides}
        left = sorted(name for name, part in part_of.items() if part is None)
        if left:
            raise ConfigError(f"mapping, fold {fold!r} gives no part to: {join_names(left)}. 'none' leaves a slide out")
        if "train" not in part_of.values():
            raise ConfigError(f"mapping, fold {fold!r} leaves nobody to train on")
        folds[fold] = {name: part for name, part in part_of.items() if part in PARTS}
    return folds


SCHEMES: dict[str, Callable[[list[Unit], SplitRequest], dict[str, Assignment]]] = {
    "patients": split_by_patient,
    "leave_one_patient_out": split_leave_one_out,
    "paper": split_as_paper,
    "file": split_by_mapping,
}

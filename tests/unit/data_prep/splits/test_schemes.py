"""Splits by patient: disjoint, deterministic, near their shares; and what is refused."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.cli.main import main
from data_prep.slide.patients import DLPFC_DONORS, PAPER_TEST_SLICES, find_dlpfc_slice, find_known_patient
from data_prep.splits.schemes import SplitRequest, make_split
from data_prep.splits.units import SplitSlide, find_ties, find_torn, group_units
from stalign_pl.errors import ConfigError
from stalign_pl.shard_format.split import PARTS, Fold, Split, read_split

DLPFC = [
    SplitSlide(f"Human_Brain_Maynard_02082021_Visium_{number}", "study maynard", "study", "maynard", "brain", 4000)
    for numbers in DLPFC_DONORS.values()
    for number in numbers
]


def cohort(patients: int = 40, seed: int = 0) -> list[SplitSlide]:
    """Patients of one to four slides, in three tissues and ten studies."""
    rng = np.random.default_rng(seed)
    return [
        SplitSlide(
            f"s{patient}_{number}", f"P{patient:02d}", "source", f"study{patient % 10}", "abc"[patient % 3], int(spots)
        )
        for patient in range(patients)
        for number, spots in enumerate(rng.integers(300, 4000, rng.integers(1, 5)))
    ]


def parts_of(fold: Fold) -> dict[str, str]:
    return {slide: part for part, of in fold.parts.items() for slide in of.slides}


def only(split: Split) -> Fold:
    (fold,) = split.folds.values()
    return fold


def assert_disjoint(split: Split, slides: list[SplitSlide], key: str) -> None:
    """By the slides' own fields, not by the code that made the split."""
    for fold in split.folds.values():
        part_of = parts_of(fold)
        assert part_of.keys() == {slide.name for slide in slides}
        seen: dict[str, set[str]] = {}
        for slide in slides:
            seen.setdefault(getattr(slide, key), set()).add(part_of[slide.name])
        assert all(len(parts) == 1 for parts in seen.values())
        for part, of in fold.parts.items():
            assert of.patients == tuple(sorted({s.patient for s in slides if part_of[s.name] == part}))


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_disjoint_near_their_shares_and_hold_every_tissue(seed: int) -> None:
    slides = cohort(seed=seed)
    split = make_split(slides, SplitRequest(seed=seed, val=0.1, test=0.2))
    assert_disjoint(split, slides, "patient")
    spots = Counter()
    tissues: dict[str, set[str]] = {part: set() for part in PARTS}
    for slide in slides:
        spots[parts_of(only(split))[slide.name]] += slide.spots
        tissues[parts_of(only(split))[slide.name]].add(slide.tissue)
    total = spots.total()
    assert spots["test"] / total == pytest.approx(0.2, abs=0.03)
    assert spots["val"] / total == pytest.approx(0.1, abs=0.03)
    assert tissues["train"] == tissues["test"] == set("abc")


def test_neither_order_nor_other_patients_decide_who_goes_first() -> None:
    slides = cohort()
    split = make_split(slides, SplitRequest(seed=3))
    shuffled = [slides[place] for place in np.random.default_rng(1).permutation(len(slides))]
    assert make_split(shuffled, SplitRequest(seed=3)).content() == split.content()
    assert make_split(slides, SplitRequest(seed=4)).folds != split.folds


def test_shares_of_patients_are_whole_patients() -> None:
    slides = [replace(slide, tissue="") for slide in cohort(patients=20)]
    fold = only(make_split(slides, SplitRequest(val=0.1, test=0.2, by="patients")))
    assert {part: len(of.patients) for part, of in fold.parts.items()} == {"train": 14, "val": 2, "test": 4}


def test_a_study_stays_together_when_it_is_the_unit() -> None:
    slides = cohort()
    split = make_split(slides, SplitRequest(unit="study", val=0.2, test=0.2))
    assert_disjoint(split, slides, "study")
    by_patient = make_split(slides, SplitRequest(val=0.2, test=0.2))
    with pytest.raises(AssertionError):
        assert_disjoint(by_patient, slides, "study")


def test_duplicates_are_never_torn_apart() -> None:
    slides = cohort()
    twins = [(slides[0].name, slides[-1].name), (slides[5].name, slides[-1].name)]
    for seed in range(20):
        tied = [replace(s, duplicates=tuple(b for a, b in twins if a == s.name)) for s in slides]
        part_of = parts_of(only(make_split(tied, SplitRequest(seed=seed, val=0.3, test=0.3))))
        assert all(part_of[one] == part_of[other] for one, other in twins)
    with pytest.raises(ConfigError, match=r"'s0_0' is a duplicate of 'gone'"):
        make_split([replace(slides[0], duplicates=("gone",)), *slides[1:]], SplitRequest())


def test_the_check_finds_what_a_division_tears() -> None:
    """It looks at the reasons, not at the units that the schemes move."""
    slides = [replace(slide, duplicates=("s1_0",) if slide.name == "s0_0" else ()) for slide in cohort()]
    found = find_ties(slides)
    good = {slide.name: "train" for slide in slides}
    assert find_torn(found, good) == []
    assert find_torn(found, {**good, "s0_0": "test"})[-1] == "duplicates: s0_0 in test; s1_0 in train"
    (unit,) = [unit for unit in group_units(slides, found) if unit.name == "P00"]
    assert {slide.patient for slide in unit.slides} == {"P00", "P01"}


def test_the_dlpfc_donors_are_test_patients_whatever_the_catalogue_says() -> None:
    for stated in ("study maynard", "someone", ""):
        dlpfc = [replace(s, patient=stated or f"P{number}") for number, s in enumerate(DLPFC)]
        slides = [*cohort(), *dlpfc]
        for seed in range(5):
            fold = only(make_split(slides, SplitRequest(seed=seed)))
            assert {slide.name for slide in dlpfc} <= set(fold.test.slides)
    anywhere = [only(make_split(slides, SplitRequest(seed=s, hold_out_dlpfc=False))) for s in range(10)]
    assert any({s.name for s in DLPFC} & set(fold.train.slides) for fold in anywhere)
    for fold in anywhere:  # the catalogue splits the donors here; the literature does not
        for numbers in DLPFC_DONORS.values():
            assert len({parts_of(fold)[s.name] for s in DLPFC if find_dlpfc_slice(s.name) in numbers}) == 1


def test_what_is_held_out_counts_in_the_share() -> None:
    slides = [*cohort(), *DLPFC]
    total = sum(slide.spots for slide in slides)
    fold = only(make_split(slides, SplitRequest(val=0.1, test=0.4)))
    assert sum(s.spots for s in slides if s.name in fold.test.slides) / total == pytest.approx(0.4, abs=0.04)


def test_one_fold_a_patient_and_the_next_one_validates() -> None:
    slides = [SplitSlide(f"{patient}{n}", patient, spots=9) for patient in ("B", "A", "C", "D") for n in range(2)]
    split = make_split(slides, SplitRequest("leave_one_patient_out"))
    assert_disjoint(split, slides, "patient")
    assert {
        name: (fold.test.patients, fold.val.patients, fold.train.patients) for name, fold in split.folds.items()
    } == {
        "A": (("A",), ("B",), ("C", "D")),
        "B": (("B",), ("C",), ("A", "D")),
        "C": (("C",), ("D",), ("A", "B")),
        "D": (("D",), ("A",), ("B", "C")),
    }
    alone = make_split(slides[:4], SplitRequest("leave_one_patient_out", val=0))
    assert {name: fold.val.slides for name, fold in alone.folds.items()} == {"A": (), "B": ()}


def test_the_papers_split_is_by_slide_and_says_so() -> None:
    split = make_split([*cohort(), *DLPFC], SplitRequest("paper"))
    assert {find_dlpfc_slice(name) for name in only(split).test.slides} == set(PAPER_TEST_SLICES)
    assert len(only(split).test.slides) == 6
    assert split.unit == "slide"
    assert split.marks[0].startswith("not disjoint by patient: the paper's split (donor 'Br5292', ")
    six = [slide for slide in DLPFC if find_dlpfc_slice(slide.name) in PAPER_TEST_SLICES]
    disjoint = make_split([*cohort(), *six], SplitRequest("paper"))
    assert disjoint.marks[0] == "held out by slide: the paper's split"
    with pytest.raises(ConfigError, match=r"no slide's name has 151673"):
        make_split([*cohort(), *six[:-1]], SplitRequest("paper"))


def test_marks_say_what_stands_for_a_patient() -> None:
    slides = cohort()
    slides[0] = replace(slides[0], patient=slides[0].name, patient_from="slide")
    slides += [SplitSlide(f"x{n}", "study x", "study", "x", spots=10) for n in range(3)]
    assert make_split(slides, SplitRequest()).marks == (
        f"a slide stands for a patient in 1 of {len(slides)} slides",
        f"the study stands for the patient in 3 of {len(slides)} slides",
    )


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (SplitRequest("random"), "unknown scheme 'random'; known: patients, leave_one_patient_out, paper, file"),
        (SplitRequest(test=1.2), r"--test is 1.2; a share from 0 to below 1"),
        (SplitRequest(val=0.5, test=0.5), "leave nothing to train on"),
        (SplitRequest(val=0.00001), r"leaves val empty: the smallest of 40 patients has 0\.\d+ of them"),
        (SplitRequest(unit="hospital"), "unit is 'hospital'; known: patient, study"),
        (SplitRequest("file"), "needs one"),
        (SplitRequest(mapping={}), "goes with the scheme 'file'"),
        (SplitRequest("leave_one_patient_out", val=0.2), "no shares, or --val 0"),
        (SplitRequest("paper", test=0.2), "its own test slides"),
    ],
    ids=lambda value: None if isinstance(value, str) else value.scheme,
)
def test_a_wrong_request_is_named(request_: SplitRequest, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_split(cohort(), request_)


def test_slides_that_cannot_be_split_are_named() -> None:
    slides = cohort()
    with pytest.raises(ConfigError, match=r"1 slides have no patient.*s0_0.*--slide-as-patient"):
        make_split([replace(slides[0], patient=" "), *slides[1:]], SplitRequest())
    with pytest.raises(ConfigError, match=r"'s0_0' is listed twice"):
        make_split([*slides, slides[0]], SplitRequest())
    with pytest.raises(ConfigError, match=r"2 patients \(P00, P01\) do not make 3 parts.*--val 0"):
        make_split(cohort(patients=2), SplitRequest())
    with pytest.raises(ConfigError, match=r"2 patients do not make 3 parts.*--val 0"):
        make_split(cohort(patients=2), SplitRequest("leave_one_patient_out"))
    with pytest.raises(ConfigError, match=r"spots of s0_0 are not known.*--by patients"):
        make_split([replace(slides[0], spots=0), *slides[1:]], SplitRequest())
    with pytest.raises(ConfigError, match=r"no patient is left to train on after the DLPFC donors.*no-hold-out-dlpfc"):
        make_split([replace(s, patient=f"P{n}") for n, s in enumerate(DLPFC)], SplitRequest(val=0))


@pytest.mark.parametrize(
    ("name", "donor"),
    [
        ("Human_Brain_Maynard_02082021_Visium_151507", "Br5292"),
        ("151672_filtered", "Br5595"),
        ("dlpfc151676", "Br8100"),
        ("MISC12", "Br5292"),  # HEST-1k's name of 151507
        ("MISC1", "Br8100"),
        ("Human_Brain_Louise_02152023_Visium_Br8325_ant", "Br8325"),
        ("Human_Brain_Kwon_10162023_Visium_V10A27004_A1_Br3874", "Br3874"),
        ("1515070", None),
        ("151511", None),
        ("MISC13", None),
        ("Human_Breast_10X_06092021_Visium", None),
    ],
)
def test_known_donors(name: str, donor: str | None) -> None:
    assert find_known_patient(name) == donor


def test_hest_names_the_same_sections(real_data: Path) -> None:
    with (real_data / "hest" / "HEST_v1_1_0.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["id"]: row["subseries"] for row in csv.DictReader(file) if row["dataset_title"] == "spatialLIBD"}
    assert {name: find_dlpfc_slice(name) for name in rows} == rows
    assert len(rows) == 12


@pytest.fixture(scope="module")
def catalogue(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STimage-1K4M's human Visium slides as a plan would list them: by known donor, else by pmid or accession."""
    with (real_data / "stimage1k4m" / "meta_all_gene02122025.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["species"], row["tech"]) == ("human", "Visium")]
    path = tmp_path_factory.mktemp("catalogue") / "slides.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "patient", "patient_from", "study", "spots", "tissue"])
        for row in rows:
            study, donor = (
                row["pmid"] or row["slide"].split("_Visium")[0].split("_GSM")[0],
                find_known_patient(row["slide"]),
            )
            who = (donor, "source") if donor else (f"study {study}", "study")
            writer.writerow([row["slide"], *who, study, row["spot_num"], row["tissue"]])
    return path


def test_the_real_catalogue_splits_at_once(catalogue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "split.json"
    assert main(["splits", str(catalogue), "--out", str(out), "--unit", "study"]) == 0
    printed = capsys.readouterr().out
    with catalogue.open(newline="") as file:
        rows = {row["slide"]: row for row in csv.DictReader(file)}
    assert len(rows) == 531
    fold = only(read_split(out))
    studies = [study for part in fold.parts.values() for study in {rows[name]["study"] for name in part.slides}]
    assert len(studies) == len(set(studies))  # each in one part
    shares = [sum(int(rows[name]["spots"]) for name in part.slides) / 1_301_755 for part in fold.parts.values()]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
    assert sum(find_dlpfc_slice(name) is not None for name in fold.test.slides) == 12
    assert "note: the study stands for the patient in 479 of 531 slides" in printed
    assert [line.split()[1] for line in printed.splitlines()[1:4]] == list(PARTS)


def test_a_shard_set_and_its_plan_split_alike(tiny_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text(
        "slide,patient,patient_from,study,spots,rule\n"
        "tiny_3,P3,sheet,tiny,64,\ntiny_1,P1,sheet,tiny,64,\ntiny_2,P2,sheet,tiny,64,\n"
    )
    paths = [tmp_path / name for name in ("set.json", "plan.json")]
    for source, out in zip((tiny_shards, tmp_path / "slides.csv"), paths, strict=True):
        assert main(["splits", str(source), "--scheme", "leave_one_patient_out", "--out", str(out)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert list(json.loads(paths[0].read_text())["folds"]) == ["P1", "P2", "P3"]


def test_a_mapping_by_patient_slide_or_fold(tiny_shards: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "parts.csv"
    given = [
        "splits",
        str(tiny_shards),
        "--scheme",
        "file",
        "--mapping",
        str(mapping),
        "--out",
        str(tmp_path / "a.json"),
    ]
    mapping.write_text("patient,part\nP1,train\nP2,none\nP3,test\n")
    assert main(given) == 0
    first = only(read_split(tmp_path / "a.json"))
    assert (first.train.slides, first.val.slides, first.test.patients) == (("tiny_1",), (), ("P3",))
    mapping.write_text(
        "slide,part,fold\n"
        + "".join(f"tiny_{n},{'test' if n == t else 'train'},f{t}\n" for n in (1, 2, 3) for t in (1, 2))
    )
    assert main(given) == 0
    folds = read_split(tmp_path / "a.json").folds
    assert {name: fold.test.slides for name, fold in folds.items()} == {"f1": ("tiny_1",), "f2": ("tiny_2",)}
    again = [*given[:5], str(tmp_path / "a.json"), "--out", str(tmp_path / "b.json")]
    assert main(again) == 0
    assert read_split(tmp_path / "b.json").folds == folds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide,part\ntiny_1,train\ntiny_2,train\n", "gives no part to: tiny_3"),
        ("slide,part\ntiny_1,train\ntiny_2,learn\ntiny_3,test\n", "part 'learn'; known: train, val, test, none"),
        ("slide,part\ntiny_1,train\ntiny_9,test\n", "no slide or patient of these names: tiny_9"),
        ("slide,where\ntiny_1,train\n", "has no column part; it has: slide, where"),
        ("slide,part\ntiny_1,train\ntiny_1,test\n", "line 3: 'tiny_1' is in 'train' already"),
        ("slide,part\ntiny_1,test\ntiny_2,test\ntiny_3,val\n", "leaves nobody to train on"),
    ],
)
def test_a_wrong_mapping_is_named(
    text: str, said: str, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "parts.csv").write_text(text)
    given = ["--scheme", "file", "--mapping", str(tmp_path / "parts.csv"), "--out", str(tmp_path / "a.json")]
    assert main(["splits", str(tiny_shards), *given]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()


def test_a_mapping_may_not_tear_a_patient_apart() -> None:
    slides = [SplitSlide(f"s{n}", "P1" if n < 2 else f"P{n}", spots=5) for n in range(4)]
    mapping = {"main": {"s0": "train", "s1": "test", "s2": "train", "s3": "test"}}
    with pytest.raises(
        ConfigError, match=r"fold 'main' is not disjoint by patient: patient 'P1': s1 in test; s0 in tr"
    ):
        make_split(slides, SplitRequest("file", mapping=mapping))
    mapping["main"]["s1"] = "none"
    assert only(make_split(slides, SplitRequest("file", mapping=mapping))).train.slides == ("s0", "s2")


def test_duplicates_by_file_and_in_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, twins, out = (tmp_path / name for name in ("slides.csv", "twins.csv", "a.json"))
    rows = [f"s{n},P{n},source,,100,{'s1' if n == 0 else ''}" for n in range(12)]
    plan.write_text("\n".join(["slide,patient,patient_from,study,spots,duplicate_of", *rows]) + "\n")
    twins.write_text("slide,duplicate_of\ns2,s1\n")
    for seed in range(8):
        given = ["--duplicates", str(twins), "--seed", str(seed), "--val", "0.3", "--test", "0.3", "--out", str(out)]
        assert main(["splits", str(plan), *given]) == 0
        part_of = parts_of(only(read_split(out)))
        assert part_of["s0"] == part_of["s1"] == part_of["s2"]
    twins.write_text("slide,duplicate_of\ns2,s99\n")
    assert main(["splits", str(plan), "--duplicates", str(twins), "--out", str(out)]) == 2
    assert "line 2: there is no slide 's99'" in capsys.readouterr().err


def test_an_input_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "slides.csv").write_text("slide,patient,patient_from,study,spots\na,P1,source,,many\n")
    for given, status, said in (
        ("nowhere", 2, "there is no shard set or CSV of slides"),
        ("slides.csv", 2, "line 2: slide 'a' has 'many' spots; a whole number is wanted"),
        (".", 1, "is not a shard set"),
    ):
        assert main(["splits", str(tmp_path / given), "--out", str(tmp_path / "a.json")]) == status
        assert said in capsys.readouterr().err

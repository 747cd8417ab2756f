"""Dense text to sparse counts: pandas is the oracle, and the file's size does not show in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.slide.slide import SlideError
from data_prep.sources.stimage import count_table
from data_prep.sources.stimage.count_table import read_count_table, read_genes


@pytest.mark.parametrize("block", [1, 37, 1 << 19])
@pytest.mark.parametrize("form", ["int", "float", "crlf", "quoted", "bom", "no newline at the end"])
def test_every_form_reads_as_pandas_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, form: str
) -> None:
    monkeypatch.setattr(count_table, "BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.3, (9, 13)) * rng.integers(1, 30_000, (9, 13))
    counts[4] = 0
    counts[2, 3] = 2**24 - 1
    table = pd.DataFrame(counts, [f"s_{i}x{i}" for i in range(9)], [f"G{i // 2}" for i in range(13)])
    path = tmp_path / "counts.csv"
    if form == "float":
        table = table.astype(float)
    table.to_csv(
        path,
        lineterminator="\r\n" if form == "crlf" else "\n",
        quoting=2 if form == "quoted" else 0,
        encoding="utf-8-sig" if form == "bom" else "utf-8",
    )
    if form == "no newline at the end":
        path.write_bytes(path.read_bytes().rstrip())
    found = read_count_table("slide", path)
    assert found.spots.tolist() == table.index.tolist()
    assert found.genes == tuple(table.columns)
    assert np.array_equal(found.counts.toarray(), counts)
    assert found.counts.dtype == np.int32
    found.counts.check_format(full_check=True)


def test_odd_spellings_of_whole_numbers_count(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(',A,B,C,D,E\ns,3e2,"7", 4,00,000000000012\n')
    assert read_count_table("slide", path).counts.toarray().tolist() == [[300, 7, 4, 0, 12]]
    for cell in ("1.5", "-3", "nan", "", "inf", "1_0x", "16777216", "99999999999"):
        path.write_text(f",A,B\ns,1,{cell}\n")
        with pytest.raises(SlideError, match=f"counts.csv: gene 'B' of spot 's' is '{cell}'"):
            read_count_table("slide", path)


def test_the_header_is_read_alone_with_its_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_bytes(b',TBCE,"A,B",TBCE\n\xff')
    assert read_genes("slide", path) == ("TBCE", "A,B", "TBCE")
    with pytest.raises(SlideError, match="cannot be read"):
        read_genes("slide", tmp_path / "none.csv")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    genes, row = 20_000, ",".join(["0"] * 19_990 + ["1"] * 10)
    with open(path, "w") as file:
        file.write("," + ",".join(f"GENE{i}" for i in range(genes)) + "\n")
        for spot in range(1000):
            file.write(f"slide_{spot},{row}\n")
    size = path.stat().st_size
    tracemalloc.start()
    found = read_count_table("slide", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.counts.nnz == 10_000
    assert size > 40e6
    assert peak < 20e6, f"a file of {size / 1e6:.0f} MB took {peak / 1e6:.0f} MB"

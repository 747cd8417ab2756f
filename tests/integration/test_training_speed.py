"""The speed benchmarks of training in small form: they run, and write what they say they write. Nothing of times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch


def results(module: ModuleType, tmp_path: Path, *given: str) -> tuple[dict, str]:
    """Run on drawn tissue; results.json and table.md."""
    module.main([*given, "--section", "none", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "work").exists()
    return json.loads((tmp_path / "out/results.json").read_text()), (tmp_path / "out/table.md").read_text()


def test_the_loader_beside_decoding_and_stock_loaders(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    found, table = results(benchmark("speed.loader"), tmp_path, "--pairs", "32", "--repeats", "1", "--workers", "0")
    assert len(found["us_a_pair"]) == 11
    assert all(cpu > 0 for turns in found["us_a_pair"].values() for cpu, *_ in turns)
    assert table.count("\n| ours, K = ") == 5


def test_the_step_beside_resident_tensors_and_the_authors_scheme(
    benchmark: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    turns = {kind: [{"wall": 1.0, "cpu": cpu}] for kind, cpu in (("whole", 0.5), ("resident", 0.4), ("authors", 2.0))}
    other = {"setting": "before", "anchors": 10, "turns": turns | {"waiting": [0.0]}}
    (tmp_path / "out/results.json").write_text(json.dumps({"other": other}))
    found, table = results(benchmark("speed.step"), tmp_path, "--tiny", "--genes", "50", "--repeats", "1")
    assert found.pop("other") == other
    assert "| other | whole | 10 | 500 | 50.00 | 25.00 | 0.80 |" in table
    assert "other: whole at least 0.95 of resident: MISSED, 0.80; the authors' scheme costs 4.0 times as much" in table
    assert found["tiny"]["turns"].keys() == {"whole", "resident", "authors", "waiting"}
    assert all(taken["cpu"] > 0 for kind in turns for taken in found["tiny"]["turns"][kind])
    assert table.count("\n| tiny | ") == 3


def test_many_slides(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    found, table = results(benchmark("speed.start"), tmp_path, "--tiny", "--repeats", "1")
    assert found["slides"] == 12
    assert found["epoch"]["pairs"] == 6 * 64 + 6 * 76
    assert len(found["first"]["cold"]) == 5
    assert "10 slides / 12 slides" in table


def test_the_gpu_benchmark_on_a_cpu(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    found, table = results(benchmark("speed.gpu"), tmp_path, "--device", "cpu", "--tiny", "--genes", "50")
    assert [one["name"] for one in found["encoders"]] == ["test_vit", "test_efficientnet_gn"]
    assert 0 < found["losses"]["bf16"]["gradient"] < 0.05
    assert found["losses"]["compiled"]["gradient"] < 1e-5
    assert "test_vit: at least 0.4 MFU" in table


def test_the_gpu_benchmark_says_what_it_wants(
    benchmark: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as stopped:
        benchmark("speed.gpu").main([])
    assert stopped.value.code == 2
    assert "no GPU: this wants an NVIDIA GPU" in capsys.readouterr().err

"""A run whose spot genes go through a frozen scGPT: trained, checkpointed without it, tested with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stalign_pl.evaluation.results import read_results
from tests.support.runs import QUICK, arguments, run_here
from tests.support.scgpt_folder import published


def test_a_frozen_scgpt_stays_as_published_and_out_of_the_checkpoint(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = published(tmp_path / "scgpt")
    given = (
        *QUICK,
        "--data.genes.method=all",
        "--model.model.init_args.spot_gene=stalign_pl.models.ScGPT",
        f"--model.model.init_args.spot_gene.init_args.folder={folder}",
        "--trainer.max_epochs=1",
    )
    assert run_here(*arguments("fit", tiny_shards, tmp_path, *given)) == 0
    assert "spot_gene: scGPT knows 38 of 40 genes; not: GENE1, GENE2\n" in capsys.readouterr().out
    run = tmp_path / "tiny"
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    streams = {name.split(".")[2] for name in weights if name.startswith("model.spot_gene.")}
    assert streams == {"to_tokens"}
    assert run_here(*arguments("test", tiny_shards, tmp_path, *given)) == 0
    rows = read_results(run / "results.json")
    found = {row.split: row.mean for row in rows if (row.row, row.metric, row.slide) == ("stalign", "mse", "all")}
    assert found.keys() == {"val", "test"}

    (folder / "best_model.pt").unlink()
    assert run_here(*arguments("test", tiny_shards, tmp_path, *given)) == 1
    assert f"{folder / 'best_model.pt'}: no such file" in capsys.readouterr().err

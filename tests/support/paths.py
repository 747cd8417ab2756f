"""Where things stand."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny.yaml")
"""The smallest run that has every part: a configuration of `fit` without shards and folder."""

SCGPT = Path(__file__).with_name("scgpt")
"""scGPT's published form, small: args.json, vocab.json and weights; its README says how it was made."""

"""Evaluation: arrays in, numbers and pictures out. No torch, no Lightning; callbacks and `test` call it."""

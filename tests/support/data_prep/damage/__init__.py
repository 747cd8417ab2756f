"""Damaged input for `data_prep build`: a file a class of damage, over the cohorts of cohorts.py."""

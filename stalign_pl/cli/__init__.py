"""The commands of `python -m stalign_pl`: text in, an exit status out; the work is done in the rooms below."""

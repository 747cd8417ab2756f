"""The commands of `python -m stalign_pl`: they parse arguments, call the other packages, and return an exit status."""

"""The commands of `python -m data_prep`: one file a command, arguments in, an exit status out."""

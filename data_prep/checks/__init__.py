"""The parts of `python -m data_prep check`: each looks at one kind of file and yields what is wrong with it."""

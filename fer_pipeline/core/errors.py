"""The one exception that means "the input is wrong", and nothing else."""


class InputError(Exception):
    """Wrong input: its message is one sentence that names file, row and remedy.

    The command line prints the sentence and exits with code 2; an asset fails with it.
    """

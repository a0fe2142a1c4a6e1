"""Exceptions whose message is told to people as it stands: wrong input, and a place in use."""


class InputError(Exception):
    """Wrong input: its message is one sentence that names file, row and remedy.

    The command line prints the sentence and exits with code 2; an asset fails with it.
    """


class BusyError(Exception):
    """Someone else is at work on the same thing: its message is one sentence.

    The command line prints the sentence and exits with code 1; an asset fails with it.
    """

"""What appulse says when it cannot use what it was given."""


class InputError(Exception):
    """A file or value that appulse cannot use. One line: what came, what was expected, what to do."""


class UsageError(InputError):
    """Options that contradict each other, or what a directory already holds."""

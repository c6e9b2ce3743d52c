"""The one exception that users see: a single line that says what, got, and what to do."""


class UserError(ValueError):
    """A mistake the user can mend. The command line prints its text and exits with code 2."""

"""The one exception that users see: a single line that says what, got, and what to do."""


class UserError(ValueError):
    """A mistake the user can mend. The command line prints its text and exits with code 2."""


class DamageError(UserError):
    """Images that are lost or wrong where they lie, whatever is tried; a run may go on without a few of them."""

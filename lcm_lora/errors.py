"""The one error that users see."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what, where, how to mend."""

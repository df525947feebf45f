"""The error a user can mend, and nothing else."""


class UserError(ValueError):
    """What the user asked for cannot be done; the message names the value, the rule and the choices.

    A command prints it as one line and exits with code 2, before any training starts.
    """

"""How the project tells its users that something they gave cannot be used."""


class UserError(ValueError):
    """What the user gave cannot be used. The message is one line that names the flag or file and the remedy."""

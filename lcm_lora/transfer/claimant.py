"""Under which name a subject keeps what was made of it, in stores that painters share."""


def claimant(subject: str) -> str:
    """Return the name; no painter is called so."""
    return f"transfer.{subject}"

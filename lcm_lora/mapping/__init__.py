"""Draw the page of the transfer evaluation: how the adapter does elsewhere, at which weights."""

"""Draw everything that people read from the table of scores: figures, grids, the card, the page."""

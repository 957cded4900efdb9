"""Paint image sets: a subject (a base and weighted adapters), a sampler, and cells."""

"""Source pictures to shards, shards to cached latents, cached latents to deterministic batches."""

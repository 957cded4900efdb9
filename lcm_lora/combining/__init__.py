"""LoRAs as vectors that add up: read in any format, summed by weights, written in any format."""

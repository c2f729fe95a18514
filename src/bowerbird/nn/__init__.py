"""Building blocks: generators, discriminators, encoders, losses, quantizers, and exact nearest-neighbor search."""

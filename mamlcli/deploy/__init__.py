"""A trained run at work: your own images, weights for others."""

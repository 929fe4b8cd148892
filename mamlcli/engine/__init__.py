"""Tensors in, tensors out: inner loop, meta-gradient, outer loop, evaluation."""

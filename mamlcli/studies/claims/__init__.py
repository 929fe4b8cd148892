"""This folder holds the paper's claims and decides each of them."""

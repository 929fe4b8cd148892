"""Image data: packs, their sources and splits, reading files, drawing letters."""

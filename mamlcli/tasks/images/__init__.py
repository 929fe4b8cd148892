"""Make and keep image data: packs, their sources and class splits, image files, drawn letters."""

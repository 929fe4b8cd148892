"""Recipes, packs, images, run folders and exported weights as a stranger might send them, made by hypothesis.

Of each, whatever is in it: an error in words or a result, no traceback, nothing that takes more than 5 seconds of the
processor or a gigabyte, no control character in what is shown, no file changed outside of the test's folder.

The suite tries a few of each, the same every time. `MAMLCLI_FUZZ=soak pytest tests/fuzz` (a part of `make soak`) tries
10,000 recipes and overrides, and 2,000 packs, images and run folders with weights, others every time; hypothesis prints
what reproduces a failure.
"""

"""The fast path: layers over many tasks at once, their second derivatives written out."""

"""mamlcli: meta-train, adapt and study MAML from the command line."""

__version__ = "0.1.0"

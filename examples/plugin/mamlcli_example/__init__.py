"""A network, a task distribution and a gradient transform that mamlcli finds by their names."""

"""This folder measures what each layer does when a network adapts."""

"""What each layer does when a network adapts."""

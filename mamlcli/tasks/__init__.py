"""What an episode is and where it comes from."""

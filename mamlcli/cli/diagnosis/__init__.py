"""What `mamlcli doctor` checks."""

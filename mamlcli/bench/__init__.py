"""Speed and memory beside peers, and tuning."""

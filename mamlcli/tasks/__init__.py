"""Define what an episode is, and draw episodes: synthetic tasks, and few-shot tasks of images."""

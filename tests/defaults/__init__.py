"""The defaults of the program: no network, the user's umask, nothing private in what is exported."""

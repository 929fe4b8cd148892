"""Python imports this at its start, in every process of a session: another host name, and no network.

Every attempt to reach the network is written to the file $ATTEMPTS, also one whose error somebody swallows.
"""

import os
import platform
import socket
import sys

HOST = os.environ["SESSION_HOST"]


def _in_strange_place() -> None:
    real = os.uname()
    strange = os.uname_result((real.sysname, HOST, real.release, real.version, real.machine))
    os.uname = lambda: strange
    platform.node = lambda: HOST
    socket.gethostname = lambda: HOST
    socket.getfqdn = lambda name="": HOST


_ASKING = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto", "urllib.Request")


def _without_network(event, words):
    # The workers of one run meet through a file; nothing of ours connects to another process by an address.
    if event in _ASKING or (event == "socket.connect" and isinstance(words[1], tuple)):
        with open(os.environ["ATTEMPTS"], "a") as out:
            out.write(f"{event} {words[1:] if event == 'socket.connect' else words}\n")
        raise ConnectionRefusedError(f"no network here: {event}")


_in_strange_place()
sys.addaudithook(_without_network)

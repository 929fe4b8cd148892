"""A connection: what is known of a cluster of which nothing is said."""

from __future__ import annotations

from mamlcli.studies.where.connection import Connection


def test_a_cluster_of_which_nothing_is_said_has_the_places_of_its_workers_and_waits_for_nothing_known():
    connection = Connection(None, "tcp://127.0.0.1:8786")
    assert (connection.num_processes, connection.num_threads, connection.pending()) == (None, None, "")

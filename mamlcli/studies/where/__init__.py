"""Where the runs of a study are trained: in processes here, on each GPU of this machine, or on a cluster by Dask."""

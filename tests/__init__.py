import os

# Processes of pytest-xdist share the cores: threads of one would wait for those of another. Before torch is loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

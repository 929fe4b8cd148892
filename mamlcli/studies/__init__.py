"""The paper: sweeps over depth, layers and optimizers; what layers do; claims decided."""

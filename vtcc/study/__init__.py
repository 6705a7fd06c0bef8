"""Settings times seeds: planned, run, recorded and compared. Torch-free."""

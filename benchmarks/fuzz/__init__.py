"""`python -m benchmarks.fuzz`: damaged and hostile files against the readers."""

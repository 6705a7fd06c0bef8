"""The version, for who needs it and nothing else."""

__version__ = "0.1.0"

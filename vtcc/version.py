"""The version, for who needs it and nothing else."""

__version__ = "0.2.0"

"""vtcc: deep clustering of images without labels (VTCC, arXiv 2206.12925)."""

__version__ = "0.1.0"

"""vtcc: deep clustering of images without labels (VTCC, arXiv 2206.12925)."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`vtcc.ImageClusterer`, which is imported when it is asked for: it needs seconds."""
    if name == "ImageClusterer":
        from vtcc import quiet

        quiet.apply()
        from vtcc.estimator import ImageClusterer

        return ImageClusterer
    raise AttributeError(f"module 'vtcc' has no attribute {name!r}")

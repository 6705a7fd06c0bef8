"""vtcc: deep clustering of images without labels (VTCC, arXiv 2206.12925)."""

from typing import TYPE_CHECKING, Any

from vtcc.version import __version__ as __version__

if TYPE_CHECKING:
    from vtcc.grouping.estimator import ImageClusterer as ImageClusterer


def __getattr__(name: str) -> Any:
    """`vtcc.ImageClusterer`, which is imported when it is asked for: it needs seconds."""
    if name == "ImageClusterer":
        from vtcc import quiet

        quiet.apply()
        from vtcc.grouping.estimator import ImageClusterer

        return ImageClusterer
    raise AttributeError(f"module 'vtcc' has no attribute {name!r}")

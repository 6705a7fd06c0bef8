"""Names of the scores that `vtcc.analysis.metrics.clustering_scores` gives, without its imports."""

SCORES = ("acc", "nmi", "ari", "fmi")

"""Names of the scores that `vtcc.analysis.metrics.clustering_scores` gives, without its imports."""

SCORES = ("acc", "nmi", "ari", "fmi")
COMPARED = SCORES[:3]  # in tables of studies and of the literature, which has no FMI
TRAINED_BASELINES = ("kmeans_embedding",)  # the baselines that read the trained model

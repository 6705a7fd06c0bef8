"""Names of the figures that `vtcc.analysis.metrics` gives, without its imports."""

# Columns of the tables of studies and of docs/results.md, where there are labels.
COMPARED = ("acc", "nmi", "ari")
# All that `clustering_scores` gives; the literature, which those tables quote, has no FMI.
SCORES = (*COMPARED, "fmi")
# Those of `label_free` that are columns where there are no labels.
LABEL_FREE = ("confidence", "entropy", "smallest_cluster", "largest_cluster", "clusters_used")
TRAINED_BASELINES = ("kmeans_embedding",)  # the baselines that read the trained model

"""Scores, baselines, the label-free rules, and what a person looks at."""

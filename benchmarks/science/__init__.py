"""What recipes, ablations and kinds of cohort do to the figures."""

"""The farm beside its peers: the same sets of packages, built from source and installed by each, in one run."""

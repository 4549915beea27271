"""COMPUTE: row blocks, centroid, black holes, norms. Pure: no files, no network, no logging, no environment."""

"""Chapter 11, scaling: one file per exercise."""

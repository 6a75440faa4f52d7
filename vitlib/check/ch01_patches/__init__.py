"""Chapter 1, pixels to patches: one file per exercise."""

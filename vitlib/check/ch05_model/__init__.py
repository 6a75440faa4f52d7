"""Chapter 5, the whole model: one file per exercise."""

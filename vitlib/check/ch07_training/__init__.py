"""Chapter 7, training: one file per exercise."""

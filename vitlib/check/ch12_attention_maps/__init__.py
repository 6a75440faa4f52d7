"""Chapter 12, attention maps: one file per exercise."""

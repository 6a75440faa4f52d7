"""Chapter 3, attention: one file per exercise."""

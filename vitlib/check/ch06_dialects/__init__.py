"""Chapter 6, dialects: one file per exercise."""

"""Chapter 4, the encoder block: one file per exercise."""

"""Chapter 9, inductive bias: what a model assumes before it sees data, one file per exercise."""

"""The contract between training and the node: what a model is, how pixels reach it, what comes out."""

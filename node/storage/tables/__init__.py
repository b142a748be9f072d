"""The tables around the path of a study, by noun, in one `metadata`. `schema` gives their names to everybody else."""

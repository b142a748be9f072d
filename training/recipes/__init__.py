"""One file per model: its docstring holds the command, the time and the result of a real run."""

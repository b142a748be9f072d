"""The node: studies come in by C-STORE, six verbs carry them, results go back into the same study."""

__version__ = "0.1.0"

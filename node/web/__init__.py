"""The dashboard: pages for the people who run a node. Reads the store and calls the same verbs as the command line."""

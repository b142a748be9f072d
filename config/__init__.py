"""Settings: one TOML file, read once, frozen."""

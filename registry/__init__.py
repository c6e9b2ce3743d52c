"""The registry: entries are data (TOML), found from any working directory."""

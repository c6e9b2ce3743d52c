"""Pictures on their way to the networks: sources, shards, the global order, views."""

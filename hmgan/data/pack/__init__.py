"""Images into shards: what is read, how it is encoded, where it goes."""

"""What a verb does, one file each."""

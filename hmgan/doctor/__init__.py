"""`hmgan doctor`: whether this machine, and the ranks it is started on, are fit to train."""

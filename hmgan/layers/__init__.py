"""What every network is made of: equalised and spectral layers, sites and their edits, the protocol of a backbone."""

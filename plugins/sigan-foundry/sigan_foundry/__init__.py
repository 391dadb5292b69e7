"""Trains a base (generator, discriminator, encoder) from a folder of aligned portraits; it made `mini`."""

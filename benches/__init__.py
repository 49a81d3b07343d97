"""Measurements. Run by hand and by `make bench`; tests never assert what they say."""

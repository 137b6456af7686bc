"""Judges, one file each: features of a picture, a statistic, a number."""

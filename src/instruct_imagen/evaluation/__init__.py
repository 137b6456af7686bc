"""Evaluation: instructions fixed by seed, judges with an oracle, and scores between a floor and a ceiling."""

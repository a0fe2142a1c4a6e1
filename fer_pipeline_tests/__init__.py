"""Tests, in the tree of the source they test."""

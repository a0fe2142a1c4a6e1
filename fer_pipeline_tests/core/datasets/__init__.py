"""Tests of the data-set formats."""

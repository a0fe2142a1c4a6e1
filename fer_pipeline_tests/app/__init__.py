"""Tests of the labelling page: its parts alone, and the page in a browser."""

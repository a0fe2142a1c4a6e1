"""Tests of the assets, called directly and through small parts of the graph."""

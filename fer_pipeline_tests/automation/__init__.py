"""Tests of what starts runs without anybody asking."""

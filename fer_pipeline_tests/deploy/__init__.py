"""Tests of what installs and starts the project."""

"""Tests of core: plain Python, no Dagster and no MLflow."""

"""fer_pipeline: from raw face lists to an evaluated expression model, in one lineage graph."""

__version__ = "0.1.0"

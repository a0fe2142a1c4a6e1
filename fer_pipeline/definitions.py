"""Entry point of workspace.yaml: what Dagster loads."""

from fer_pipeline.build import build_definitions

defs = build_definitions()

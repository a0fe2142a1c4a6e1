"""The assets, one module a stage: each reads its inputs, calls `core`, and tells what came out."""

"""The work itself, in plain Python: no orchestration, no tracking, usable alone."""

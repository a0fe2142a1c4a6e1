"""Entry point of workspace.yaml: what Dagster loads."""

import os

# numpy's OpenBLAS starts a thread for each core at its import, in every process that loads this
# module, and they spin for a while: a quarter of the import's processor time on two cores. No
# matrix here is large enough to need them; whoever sets the variable has the last word.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Nobody asked for it. And a thread of it takes a variable out of the environment while others read
# that: where its server is out of reach, MLflow's requests failed now and then.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from fer_pipeline.build import build_definitions
from fer_pipeline.logs import format_handlers, log_format

# Here every process of Dagster comes by that runs code of ours: the code server, runs, steps. What
# they print is left alone: it is what the page of a run shows people.
format_handlers(log_format())

defs = build_definitions()

"""The process of one side: run the function that is named, print its figures as JSON."""

import importlib
import json
import os
import resource
import sys

from benchmarks.harness import PEAK


def main() -> None:
    function, arguments, one_core = json.loads(sys.argv[1])
    if one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    module, _, name = function.partition(":")
    figures = getattr(importlib.import_module(f"benchmarks.{module}"), name)(**arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kilobytes elsewhere.
    figures.setdefault(PEAK, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

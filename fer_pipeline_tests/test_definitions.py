"""Importing the definitions: what every code server, run worker and step pays."""

import json
import subprocess
import sys
import time
from pathlib import Path

from fer_pipeline_tests.graph import environment

HEAVY = (
    *("tensorflow", "keras", "mlflow", "cv2", "streamlit", "sklearn", "matplotlib", "torch"),
    *("pandas", "scipy", "sqlalchemy"),
)
REPEATS = 10


def _python(code: str, home: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(FER_HOME=str(home)),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout


def _seconds(code: str, home: Path) -> float:
    """The processor time a fresh interpreter takes for `code`, its start included."""
    measured = (
        f"{code}\nimport resource, sys\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "sys.stdout.write(str(used.ru_utime + used.ru_stime))"
    )
    return float(_python(measured, home))


def test_import_of_definitions_loads_no_framework_and_turns_telemetry_off(tmp_path: Path) -> None:
    loaded, telemetry = json.loads(
        _python(
            "import json, os, sys\nimport fer_pipeline.definitions\n"
            "off = os.environ.get('MLFLOW_DISABLE_TELEMETRY')\n"
            "sys.stdout.write(json.dumps([sorted(sys.modules), off]))",
            tmp_path,
        )
    )
    assert telemetry == "true"
    assert "fer_pipeline.assets.stream" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_import_of_definitions_takes_less_than_twice_dagster(tmp_path: Path) -> None:
    # The smallest of several, taken in turn, is what the import costs; what other processes of
    # the machine take meanwhile only ever adds to it.
    dagster, definitions = [], []
    for _ in range(REPEATS):
        dagster.append(_seconds("import dagster", tmp_path))
        definitions.append(_seconds("import fer_pipeline.definitions", tmp_path))
        time.sleep(0.1)
    assert min(definitions) < 2 * min(dagster)


def test_definitions_hold_every_asset_of_the_active_streams(tmp_path: Path) -> None:
    keys = json.loads(
        _python(
            "import json, sys\nfrom fer_pipeline.definitions import defs\n"
            "graph = defs.resolve_asset_graph()\n"
            "groups = {k.to_user_string(): graph.get(k).group_name"
            " for k in graph.get_all_asset_keys()}\n"
            "sys.stdout.write(json.dumps(groups))",
            tmp_path,
        )
    )
    assert keys == {
        "file_list_index": "index",
        "expression_summary": "index",
        "label_corrections": "manifest",
        "class_manifest": "manifest",
        "face_crops": "faces",
        "crop_report": "faces",
        **{
            f"{stream}/{name}": stream
            for stream in ("five_class", "three_class")
            for name in (
                "relabel_sample",
                "trained_model",
                "evaluation_report",
                "human_error_report",
                "label_issues",
                "champion",
            )
        },
    }

"""The Dagster UI and MLflow on a finished home: what they answer, and what a browser shows."""

import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fer_pipeline_tests import graph
from fer_pipeline_tests.served import Servers, serving
from fer_pipeline_tests.system import require_program

END_SECONDS = 60
PICTURES = {
    "expression_summary": {"all_classes", "wanted_classes", "sample_photos"},
    "crop_report": {"contact_sheet"},
    "three_class/trained_model": {"training_curves"},
    "three_class/evaluation_report": {"confusion", "recall", "reliability"},
}
OF_A_STREAM = (
    "relabel_sample",
    "trained_model",
    "evaluation_report",
    "human_error_report",
    "label_issues",
    "champion",
)
GROUPS = {
    "index": {"file_list_index", "expression_summary"},
    "manifest": {"label_corrections", "class_manifest"},
    "faces": {"face_crops", "crop_report"},
    **{stream: {f"{stream}/{name}" for name in OF_A_STREAM} for stream in ("three_class", "mood")},
}
QUERY = """{ assetNodes { assetKey { path } groupName assetMaterializations(limit: 1) {
  metadataEntries { label ... on MarkdownMetadataEntry { mdStr } } } } }"""


@pytest.fixture
def servers(tmp_path: Path, drawn_release: Path) -> Iterator[Servers]:
    """`fer-pipeline ui` on a copy of the finished home."""
    with serving(graph.finished(drawn_release).copy(tmp_path / "home").home) as started:
        yield started


def _page(address: str, profile: Path, expected: set[str]) -> str:
    """The text that a browser shows, looked at again while something expected is missing."""
    command = [
        *(str(require_program("chromium")), "--headless", "--no-sandbox", "--disable-gpu"),
        *("--disable-background-networking", f"--user-data-dir={profile}"),
        *("--window-size=1600,1000", "--virtual-time-budget=15000", "--dump-dom", address),
    ]
    text = ""
    for _ in range(3):
        shown = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        body = re.sub(r"<(script|style)[\s\S]*?</\1>", "", shown.stdout)
        text = " ".join(re.sub(r"<[^>]+>", " ", body).split())
        if all(words in text for words in expected):
            break
    return text


def test_ui_shows_lineage_pictures_and_runs_and_ends_without_a_trace(
    servers: Servers, tmp_path: Path
) -> None:
    require_program("chromium")

    query = urllib.request.Request(  # noqa: S310 - an address of this machine
        f"{servers.dagster}/graphql?query=%7Bversion%7D", headers={"Sec-Fetch-Site": "cross-site"}
    )
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(query, timeout=30)  # noqa: S310

    nodes = {"/".join(node["assetKey"]["path"]): node for node in servers.ask(QUERY)["assetNodes"]}
    groups: dict[str, set[str]] = {}
    for name, node in nodes.items():
        groups.setdefault(node["groupName"], set()).add(name)
    assert groups == GROUPS
    for name, wanted in PICTURES.items():
        (made,) = nodes[name]["assetMaterializations"]
        entries = {entry["label"]: entry.get("mdStr") or "" for entry in made["metadataEntries"]}
        shown = {label for label in entries if re.match(r"!\[.+\]\(data:image/", entries[label])}
        assert wanted <= shown, name

    lineage = _page(f"{servers.dagster}/asset-groups", tmp_path / "browser", set(GROUPS))
    assert [group for group in GROUPS if group not in lineage] == []
    for group, expected in (
        ("index", {"file_list_index", "expression_summary"}),
        ("three_class", {"trained_model", "evaluation_report"}),
    ):
        page = f"{servers.dagster}/locations/fer_pipeline.definitions/asset-groups/{group}/lineage"
        shown_text = _page(page, tmp_path / "browser", expected)
        assert [name for name in expected if name not in shown_text] == []
        assert "Materialized" in shown_text
    table = {"Expression Name", "Count (Manually-Annotated)", "Happiness"}
    asset = _page(f"{servers.dagster}/assets/expression_summary", tmp_path / "browser", table)
    assert [words for words in table if words not in asset] == []

    started = psutil.Process(servers.process.pid).children(recursive=True)
    assert len(started) > 2
    servers.process.send_signal(signal.SIGTERM)
    assert servers.process.wait(timeout=END_SECONDS) == 0
    _, alive = psutil.wait_procs(started, timeout=20)
    assert [process.cmdline() for process in alive] == []

"""What the report shows of an examination: figures, tables and pictures for its templates."""

from collections.abc import Callable, Mapping
from typing import Any

from fer_pipeline.core.curves import COVERAGES
from fer_pipeline.core.examination import Examination
from fer_pipeline.core.latency import Timing
from fer_pipeline.core.png import image_png, png_as_data_uri, shrink_png
from fer_pipeline.core.robustness import MEANINGS, SEVERITIES, Robustness
from fer_pipeline.core.trust_figures import (
    map_beside_crop,
    precision_recall_chart,
    reliability_before_after,
    risk_coverage_chart,
    robustness_chart,
    roc_chart,
)

_CHART_BYTES = 30_000
_FACE_BYTES = 12_000
_EXAMPLE_SIDE = 64


_CHARTS: dict[str, Callable[[Examination], bytes]] = {
    "reliability_before_after": lambda found: reliability_before_after(found.raw, found.calibrated),
    "risk_coverage": lambda found: risk_coverage_chart(found.risk),
    "roc": lambda found: roc_chart(found.by_class),
    "precision_recall": lambda found: precision_recall_chart(found.by_class),
}
_OTHER_CHARTS: dict[str, Callable[[Examination], bytes]] = {
    # The report shows damage as a table of pictures.
    "robustness": lambda found: robustness_chart(found.robustness),
}


def detail_figures(found: Examination) -> dict[str, bytes]:
    """The charts as PNG, by name."""
    return {name: draw(found) for name, draw in (_CHARTS | _OTHER_CHARTS).items()}


def detail_values(found: Examination, drawn: Mapping[str, bytes]) -> Mapping[str, Any]:
    """What the templates `report_*.html.j2` need beside the examination itself.

    Charts that are `drawn` are taken from there.
    """
    charts = {
        name: png_as_data_uri(shrink_png(drawn.get(name) or draw(found), _CHART_BYTES))
        for name, draw in _CHARTS.items()
    }
    return {
        "charts": charts,
        "coverages": COVERAGES,
        "parts": _parts(found),
        "damage": _damage(found.robustness),
        "maps": None if found.maps is None else [_map(one) for one in found.maps],
        "timings": _timings(found),
    }


def _parts(found: Examination) -> list[dict[str, Any]]:
    """Slices by subject, in the order they come in."""
    subjects: dict[str, list[Any]] = {}
    for one in found.slices:
        subjects.setdefault(one.subject, []).append(one)
    return [{"subject": subject, "rows": rows} for subject, rows in subjects.items()]


def _damage(found: Robustness) -> list[dict[str, Any]]:
    rows = []
    for kind, pictures in zip(SEVERITIES, found.example, strict=True):
        scores = [found.clean, *(one.accuracy for one in found.of(kind))]
        drops = [None, *(one.drop for one in found.of(kind))]
        settings = [None, *SEVERITIES[kind]]
        rows.append(
            {
                "kind": kind,
                "meaning": MEANINGS[kind],
                "settings": ", ".join(f"{setting:g}" for setting in SEVERITIES[kind]),
                "cells": [
                    {
                        "uri": png_as_data_uri(image_png(picture, _EXAMPLE_SIDE)),
                        "accuracy": score,
                        "drop": drop,
                        "setting": setting,
                        "tint": 0.0 if found.clean == 0 else max(0.0, 1 - score / found.clean),
                    }
                    for picture, score, drop, setting in zip(
                        pictures, scores, drops, settings, strict=True
                    )
                ],
            }
        )
    return rows


def _map(one: Any) -> dict[str, Any]:
    png = shrink_png(map_beside_crop(one.crop, one.cells), _FACE_BYTES)
    return {"uri": png_as_data_uri(png), "face": one, "right": one.label == one.predicted}


def _timings(found: Examination) -> list[tuple[str, Timing]]:
    names = [f"Network, {one.faces} face{'s' * (one.faces > 1)} at once"
             for one in found.latency.network]  # fmt: skip
    rows = list(zip(names, found.latency.network, strict=True))
    if found.latency.detector is not None:
        rows.append(("Face detector on one decoded photo", found.latency.detector))
    if found.latency.crop is not None:
        how = "detection included" if found.latency.detector is not None else "no detection"
        rows.append((f"From one photo to the crop ({how})", found.latency.crop))
    return rows

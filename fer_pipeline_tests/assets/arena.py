"""Challengers and champions on a stream of their own, materialized as a run does it."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from fer_pipeline.champion import read_champion
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests import contenders, graph

CLASSES = ("Happiness", "Sadness", "Surprise")


class Arena:
    """A stream of its own on the server, so that no test sees the versions of another."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, folder: Path) -> None:
        self.settings, self.instance, self.folder = settings, instance, folder
        (self.stream,) = settings.streams
        self.registry = Registry(settings, self.stream)
        self.faces = contenders.dev_faces(settings, self.stream)
        self.checks: dict[str, dg.AssetCheckEvaluation] = {}

    def model(self, wrong: float = 0, seed: int = 0) -> Any:
        """A model that is wrong on this share of the dev faces."""
        labels = self.faces.expression.copy()
        chosen = np.random.default_rng(seed).permutation(len(labels))[: round(wrong * len(labels))]
        labels[chosen] = (labels[chosen] + 1) % len(CLASSES)
        return contenders.knowing(self.faces, labels, len(CLASSES))

    def train(self, model: Any, **options: Any) -> dict[str, Any]:
        """A new version, told of as the newest trained model."""
        made = contenders.register(self.settings, self.stream, model, self.folder, **options)
        contenders.say_trained(self.instance, self.stream, made)
        return made

    def challenge(self) -> dict[str, Any]:
        """Materialize the champion, as a run does; the decision."""
        result = graph.materialize(self.settings, [f"{self.stream}/champion"], self.instance)
        assert result.success
        self.checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
        (event,) = result.get_asset_materialization_events()
        told = event.materialization.metadata
        found: dict[str, Any] = read_champion(self.settings, self.stream)["decision"]
        assert told["verdict"].value == found["verdict"]
        assert told["why"].value == found["why"]
        return found

    def passed(self, check: str) -> bool:
        return self.checks[check].passed

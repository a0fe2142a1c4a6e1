"""The starter as a model that a training could have made, without the framework that reads it."""

import zipfile
from pathlib import Path

from fer_pipeline.core.model_file import CARD
from fer_pipeline.core.starter import starter_file


class StoredStarter:
    """What `save_model` takes for a Keras model."""

    def save(self, path: Path) -> None:
        """Write the archive without the card, which `save_model` adds."""
        with zipfile.ZipFile(starter_file()) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                if name != CARD:
                    target.writestr(name, source.read(name))

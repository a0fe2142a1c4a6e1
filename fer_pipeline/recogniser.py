"""The library's door: `from fer_pipeline import Recogniser`, with models by address too.

What it does stands in `core/recogniser.py`; MLflow is only asked where an address names a model
of its registry.
"""

from pathlib import Path
from typing import Self

from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import MODEL_ADDRESSES
from fer_pipeline.core.recogniser import Face, Image, Order, Reading
from fer_pipeline.core.recogniser import Recogniser as FileRecogniser
from fer_pipeline.core.starter import STARTER, starter_file
from fer_pipeline.core.storage import as_location, expanded

__all__ = ["Face", "Image", "Order", "Reading", "Recogniser"]


def is_local(model: str) -> bool:
    """Whether a model is named by its place on this machine, and not by an address of MLflow's."""
    return not model.startswith(MODEL_ADDRESSES)


def local_file(model: str) -> Path:
    """The place on this machine that a model's name means, which may begin with `~` or file://.

    Raises InputError for an empty name.
    """
    name = model.removeprefix("file://")
    if not name.strip():
        raise InputError(
            f"the name of the model is empty: give {STARTER!r}, a .keras file, the folder of one, "
            "or an address such as models:/NAME/1"
        )
    return expanded(name)


class Recogniser(FileRecogniser):
    """Recognises expressions with one model; may be shared by threads."""

    @classmethod
    def load(
        cls,
        model: str | Path = STARTER,
        *,
        threads: int | None = None,
        home: str | Path | None = None,
    ) -> Self:
        """A model by name: `starter` (the package's own), a .keras file or its folder, an
        .onnx file that `fer-pipeline export` wrote, or an MLflow address such as
        `models:/fer-five_class@champion`.

        An address is looked up as the commands do it with `home` (FER_HOME, ./fer-home), and its
        file is fetched once. `threads` compute one batch of faces, None: one for each core.
        Raises InputError when there is no such model.
        """
        return super().load(model_file_of(model, home), threads=threads)


def model_file_of(model: str | Path, home: str | Path | None = None) -> Path:
    """The file of a model by name, as `Recogniser.load` takes it; fetched if it is an address.

    Raises InputError when there is no such model; a file need not be there.
    """
    address = str(model)
    if address == STARTER:
        return starter_file()
    if is_local(address) and not local_file(address).is_dir():
        return local_file(address)
    from fer_pipeline.settings import Settings
    from fer_pipeline.tracking import model_file

    return model_file(Settings.load(home=None if home is None else as_location(home)), address)

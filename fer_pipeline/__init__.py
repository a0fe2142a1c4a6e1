"""fer_pipeline: from raw face lists to an evaluated expression model, in one lineage graph."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer_pipeline.recogniser import Recogniser

__all__ = ["Recogniser", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Recogniser, imported when it is asked for: whatever imports the package is spared it."""
    if name != "Recogniser":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fer_pipeline.recogniser import Recogniser

    return Recogniser

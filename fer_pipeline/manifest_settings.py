"""The settings of index and manifest: which rows are taken, and which side each face stands on."""

from typing import Literal

from pydantic import BaseModel, Field


class ManifestSettings(BaseModel):
    """What is made of the rows of the lists; part of the settings."""

    unknown_labels: Literal["stop", "reject"] = Field(
        "stop", description="Stop at a label in no table, or go on without its row."
    )
    dev_share: float = Field(0.1, gt=0, lt=1, description="Share of train groups carved as dev.")
    copies_across: bool = Field(
        True,
        description="Keep a picture that two data sets of a mixture hold in two encodings on one "
        "side; every photo is decoded for it.",
    )
    corrections_on_test: bool = Field(
        False, description="Apply corrected labels to the locked test split too."
    )

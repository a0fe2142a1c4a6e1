"""The settings that say whose labels count: part of the settings of a home."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from fer_pipeline.core.votes import with_ties


class LabelSettings(BaseModel):
    """Whose labels faces are trained and scored on."""

    label_source: Literal["listed", "votes"] = Field(
        "listed", description="Train and score on the listed label or on FER+ votes."
    )
    vote_ties: Literal["leave_out", "listed", "first"] = Field(
        "leave_out",
        description="With label_source votes, faces for which two expressions have most votes: "
        "left out, by the listed label where it is one of these, or by the first in code order.",
    )
    vote_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of FER+ votes in the training targets of listed labels.",
    )

    @model_validator(mode="after")
    def _votes_once(self) -> Self:
        if self.vote_share and self.label_source == "votes":
            raise ValueError(
                "vote_share mixes votes into listed labels: leave it out with label_source votes"
            )
        return self

    @property
    def label_rule(self) -> str:
        """The label source with its rule for ties, as `core` takes it and a model remembers it."""
        return with_ties(self.label_source, self.vote_ties)

    @property
    def tie_rule(self) -> str:
        """The rule for ties where it decides anything, else empty."""
        return "" if self.label_rule == self.label_source else self.vote_ties

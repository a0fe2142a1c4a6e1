"""What the service says of its model: its name, its version and its card."""

from dataclasses import dataclass

from fer_pipeline.core.model_card import NOT_MEANT_FOR, read_model_card
from fer_pipeline.core.model_file import ModelCard, without_paths
from fer_pipeline.core.starter import STARTER, starter_card_file
from fer_pipeline.service.schemas import ModelAnswer


@dataclass(frozen=True)
class About:
    """A model as it is called: `name`, its registered `version`, the Markdown of its card."""

    name: str
    version: str | None = None
    card: str | None = None

    def answer(self, card: ModelCard) -> ModelAnswer:
        """What is told of it, with what its file says."""
        return ModelAnswer(
            name=self.name,
            version=self.version,
            stream=card.stream,
            classes=list(card.classes),
            label_source=card.label_source,
            trained_on=dict(without_paths(card).trained_on),
            limits=list(NOT_MEANT_FOR),
            card=None if self.card is None else read_model_card(self.card),
        )


def starter_model() -> About:
    """The package's own model."""
    return About(STARTER, card=starter_card_file().read_text(encoding="utf-8"))

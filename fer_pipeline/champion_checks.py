"""Checks of `S/champion`: whether the newest model won, and whether it may win at all.

They read what was decided from `champion.json`. Neither blocks: a run that promotes nothing is a
successful run that says why.
"""

from collections.abc import Iterable, Sequence

import dagster as dg

from fer_pipeline.assets.steps import step
from fer_pipeline.champion import read_champion
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.core.errors import InputError
from fer_pipeline.settings import Settings

_WON = (Verdict.FIRST, Verdict.PROMOTED, Verdict.KEPT)


def champion_checks(stream: str) -> Sequence[dg.AssetChecksDefinition]:
    """Checks of one stream's champion."""
    asset = dg.AssetKey([stream, "champion"])

    @dg.multi_asset_check(
        name=f"{stream}__newest_model",
        specs=[
            dg.AssetCheckSpec(
                "beats_champion",
                asset=asset,
                description="The newest model is the champion: the first one, or its gain in "
                "macro-F1 on the dev split holds.",
            ),
            dg.AssetCheckSpec(
                "may_be_champion",
                asset=asset,
                description="No leak, and the label order and crop settings of the stream and of "
                "its champion.",
            ),
        ],
    )
    def newest_model(settings: dg.ResourceParam[Settings]) -> Iterable[dg.AssetCheckResult]:
        with step():
            decision = read_champion(settings, stream)["decision"]
            if decision is None:
                # A person moved the alias before any run decided.
                raise InputError(f"no run decided on a champion yet: materialize {stream}/champion")
            verdict = decision["verdict"]
            compared = decision["compared"] or {}
            yield dg.AssetCheckResult(
                passed=verdict in _WON,
                asset_key=asset,
                check_name="beats_champion",
                severity=dg.AssetCheckSeverity.WARN,
                description=f"version {decision['version']} {verdict}: {decision['why']}",
                metadata={
                    name: float(compared[name])
                    for name in ("macro_f1_gain", "macro_f1_gain_low", "macro_f1_gain_high")
                    if name in compared
                }
                | ({"mcnemar_p": _p_value(compared)} if compared else {}),
            )
            blocked = verdict == Verdict.BLOCKED
            yield dg.AssetCheckResult(
                passed=not blocked,
                asset_key=asset,
                check_name="may_be_champion",
                severity=dg.AssetCheckSeverity.ERROR,
                description=decision["why"] if blocked else "holds",
            )

    return [newest_model]


def _p_value(compared: dict[str, dict[str, dict[str, float]]]) -> float:
    return float(compared["accuracy"]["mcnemar"]["p_value"])

"""Freshness: how old a stream's model and the report on it may be before the pages show it."""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from fer_pipeline.settings import Settings

FRESH = ("trained_model", "evaluation_report")
"""The last part of the keys of the assets that a policy is on."""


def with_freshness(
    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec], settings: Settings
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets, those of `FRESH` with a policy: a warning after `fresh_days`, failed after two.

    "Two" are twice as many days: a weekly schedule that missed a week warns, one that missed two
    weeks fails.
    """
    policy = dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=2 * settings.fresh_days),
        warn_window=timedelta(days=settings.fresh_days),
    )

    def fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
        wanted = spec.key.path[-1] in FRESH
        return dg.apply_freshness_policy(spec, policy) if wanted else spec

    return [dg.map_asset_specs(fresh, [asset])[0] for asset in assets]

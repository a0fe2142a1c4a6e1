"""The freshness policies, as Dagster's pages and daemon find them in the graph."""

from datetime import timedelta
from pathlib import Path

import dagster as dg

from fer_pipeline.assets.stream import stream_assets
from fer_pipeline.automation.freshness import FRESH, with_freshness
from fer_pipeline.build import build_definitions
from fer_pipeline.executors import TRAINING_POOL
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version

STREAM = "three_class"


def test_model_and_report_of_each_stream_have_a_policy_and_nothing_else_has(tmp_path: Path) -> None:
    settings = Settings.fresh(home=tmp_path, fresh_days=5)
    policies = {
        spec.key.to_user_string(): spec.freshness_policy
        for asset in build_definitions(settings).assets or ()
        for spec in (asset.specs if isinstance(asset, dg.AssetsDefinition) else [])
        if spec.freshness_policy is not None
    }
    assert policies.keys() == {f"{stream}/{name}" for stream in settings.streams for name in FRESH}
    wanted = dg.FreshnessPolicy.time_window(
        warn_window=timedelta(days=5), fail_window=timedelta(days=10)
    )
    assert list(policies.values()) == [wanted] * len(policies)


def test_asset_with_a_policy_keeps_its_pool_and_its_version(tmp_path: Path) -> None:
    settings = Settings.fresh(home=tmp_path)
    key = dg.AssetKey([STREAM, "trained_model"])
    (asset,) = with_freshness([stream_assets(settings, STREAM)[0]], settings)
    assert isinstance(asset, dg.AssetsDefinition)
    assert asset.op.pool == TRAINING_POOL
    assert asset.code_versions_by_key[key] == code_version("trained_model", settings, STREAM)

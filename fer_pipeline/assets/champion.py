"""`S/champion`: the newest model against the one in use, and the alias moved only when it gains.

A refusal is a result: the step succeeds and says why. What a comparison is lives in
`core/challenge.py`, what becomes of the registry in `champion.py` of the package.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fer_pipeline import tracking
from fer_pipeline.assets.faces import verified_faces
from fer_pipeline.assets.steps import step
from fer_pipeline.assets.stream import latest_training
from fer_pipeline.champion import champion_file, leaks, locked, tell_of, write_champion
from fer_pipeline.core.challenge import (
    Challenge,
    Decision,
    Verdict,
    compare_models,
    crop_objections,
    decide,
    label_objections,
    too_few,
    with_other_faces,
    with_unknown_start,
)
from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.examples import Examples, select_examples
from fer_pipeline.core.files import text_digest
from fer_pipeline.core.storage import is_file
from fer_pipeline.metadata import markdown_table, path_value
from fer_pipeline.registry import AliasMovedError, Entry, Registry
from fer_pipeline.reports import metrics_file, read_metrics
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version

_TRIES = 3
_TEST_FIGURES = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1")
_SHOWN = 10


def champion_assets(settings: Settings, stream: str) -> Sequence[dg.AssetsDefinition]:
    """`champion` of one stream."""

    @dg.asset(
        key_prefix=stream,
        group_name=stream,
        kinds={"mlflow"},
        deps=[dg.AssetKey([stream, "trained_model"]), dg.AssetKey([stream, "evaluation_report"])],
        code_version=code_version("champion", settings, stream),
        description="The registered version that holds the alias champion, and why. The newest "
        "model gets it when its gain on the dev split holds, or the first time; a refusal is a "
        "successful run that says why. The test split is only reported.",
    )
    def champion(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult[None]:
        with step():
            return _challenge(context, settings, stream)

    return [champion]


@dataclass(frozen=True)
class _Data:
    """Today's faces: what both models are judged on."""

    manifest: pa.Table
    manifest_hash: str
    crop: CropSettings
    classes: tuple[str, ...]
    dev: Examples


def _challenge(
    context: dg.AssetExecutionContext, settings: Settings, stream: str
) -> dg.MaterializeResult[None]:
    trained = latest_training(context, stream)
    version = str(trained["model_uri"]).rpartition("/")[2]
    manifest, digest, crop_set = verified_faces(settings)
    classes = settings.all_streams[stream]
    dev = select_examples(crop_set.paths, manifest, classes, "dev", settings.label_rule)
    data = _Data(manifest, digest, crop_set.settings, classes, dev)
    registry = Registry(settings, stream)
    if version not in registry.versions():
        raise InputError(
            f"version {version} of {registry.name} was deleted in MLflow: materialize "
            f"{stream}/trained_model"
        )
    test = {"challenger": _challenger_on_test(settings, stream, trained["model_uri"])}
    for left in reversed(range(_TRIES)):
        held = registry.champion()
        decision, challenge = _decide(registry, version, held, data)
        context.log.info(f"{stream}: version {version} {decision.verdict}: {decision.why}")
        test["champion"] = None if held is None else _champion_on_test(registry, held)
        try:
            with locked(settings, stream):
                entry = registry.decide(
                    decision.verdict,
                    version,
                    before=held,
                    by=f"run {context.run.run_id}",
                    why=decision.why,
                )
                write_champion(
                    registry,
                    {
                        **asdict(entry),
                        "manifest_hash": digest,
                        "compared": None if challenge is None else challenge.to_dict(),
                        "test": test,
                    },
                )
            break
        except AliasMovedError as error:
            if not left:
                raise
            context.log.warning(str(error))
    tell_of(registry, entry, context.log)
    tracking.log_evaluation(
        settings,
        trained["mlflow_run_id"],
        {} if challenge is None else _figures(challenge),
        [champion_file(settings, stream)],
        model_id=trained["model_id"],
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(text_digest(version, entry.verdict, entry.after)),
        metadata=_metadata(registry, entry, challenge, test),
    )


def _decide(
    registry: Registry, version: str, held: str | None, data: _Data
) -> tuple[Decision, Challenge | None]:
    """What becomes of a version while `held` is the champion, and their comparison."""
    decision, challenge = _judged(registry, version, held, data)
    started = registry.unknown_start(version)
    if started is not None and decision.verdict not in (Verdict.BLOCKED, Verdict.KEPT):
        decision = with_unknown_start(decision, started)
    return decision, challenge


def _judged(
    registry: Registry, version: str, held: str | None, data: _Data
) -> tuple[Decision, Challenge | None]:
    card = registry.card(version)
    objections = [
        *label_objections(card, data.classes, "the stream's"),
        *crop_objections(card, data.crop, "the crops'"),
        *leaks(registry, version, data.manifest),
    ]
    if (
        registry.trained_groups(version) is None
        and card.trained_on.get("manifest_hash") != data.manifest_hash
    ):
        objections.append(
            "a leak can't be ruled out: it was trained on another manifest and kept no list of "
            "its photos"
        )
    if objections:
        return Decision(Verdict.BLOCKED, "; ".join(objections)), None
    if held == version:
        return Decision(Verdict.KEPT, "it is the champion already"), None
    taken = registry.taken_by_hand(version)
    if taken is not None:
        return Decision(
            Verdict.REFUSED,
            f"the alias was taken from it {taken}; only `fer-pipeline champion promote "
            f"{version}` gives it back",
        ), None
    if held is None:
        return Decision(Verdict.FIRST, "no version was the champion"), None
    champion = registry.card(held)
    if champion.trained_on.get("drawn") and not card.trained_on.get("drawn"):
        why = f"the champion before, version {held}, was trained on drawn faces"
        return Decision(Verdict.FIRST, why), None
    objections = [
        *label_objections(card, champion.classes, f"that of the champion (version {held})"),
        *crop_objections(card, champion.crop, f"those of the champion (version {held})"),
    ]
    if objections:
        advice = f"`fer-pipeline champion promote {version}` is for a person to say"
        return Decision(Verdict.BLOCKED, f"{'; '.join(objections)}; {advice}"), None
    return _compare(registry, version, held, data)


def _compare(
    registry: Registry, version: str, held: str, data: _Data
) -> tuple[Decision, Challenge | None]:
    """Both models on the dev faces that the champion wasn't trained on."""
    from fer_pipeline.core.train import prepare_process

    dev, settings = data.dev, registry.settings
    prepare_process(settings.seed, settings.threads)
    trained = registry.trained_groups(held)
    seen = set() if trained is None else set(trained["group_id"].to_pylist())
    new = np.array([group not in seen for group in dev.group_id], bool)
    left_out = int((~new).sum())
    few = too_few(len(set(dev.group_id[new].tolist())), left_out)
    if few is not None:
        return few, None
    challenge = compare_models(
        dev.expression[new],
        _predicted(registry, held, dev)[new],
        _predicted(registry, version, dev)[new],
        dev.group_id[new],
        classes_count=len(data.classes),
        seed=settings.seed,
        resamples=settings.resamples,
        left_out=left_out,
    )
    decision = decide(challenge, settings.least_gain)
    manifest_hash = registry.card(held).trained_on.get("manifest_hash")
    if manifest_hash != data.manifest_hash:
        decision = with_other_faces(decision)
    if trained is None and manifest_hash != data.manifest_hash:
        unknown = "the champion kept no list of its training photos and may have seen some of these"
        decision = replace(decision, why=f"{decision.why}; {unknown}")
    started = registry.unknown_start(held)
    if started is not None:
        decision = with_unknown_start(decision, started, champion=True)
    return decision, challenge


def _predicted(registry: Registry, version: str, dev: Examples) -> NDArray[np.int64]:
    from fer_pipeline.core.compiling import full_precision
    from fer_pipeline.core.model_file import load_model
    from fer_pipeline.core.train import predict

    # As the reports do: GPUs that round to fewer digits would compare other models.
    full_precision()
    model, _ = load_model(registry.file(version))
    best: NDArray[np.int64] = predict(model, dev).argmax(axis=1).astype(np.int64)
    return best


def _challenger_on_test(settings: Settings, stream: str, model_uri: str) -> dict[str, Any] | None:
    """The figures of the report on this model; None where the report is on another one."""
    if not is_file(metrics_file(settings, stream)):
        return None
    found = read_metrics(settings, stream)
    if found.get("model_uri") != model_uri:
        return None
    return {name: found[name] for name in _TEST_FIGURES if name in found}


def _champion_on_test(registry: Registry, held: str) -> dict[str, Any] | None:
    """What the champion's own report said, on the test split of its day."""
    metrics = registry.run_metrics(held)
    found = {n: metrics[f"test_{n}"] for n in _TEST_FIGURES if f"test_{n}" in metrics}
    return found or None


def _figures(challenge: Challenge) -> dict[str, float]:
    """Figures of a comparison that charts and MLflow take."""
    accuracy = challenge.accuracy
    return {
        "dev_faces_compared": float(challenge.faces),
        "dev_faces_left_out": float(challenge.left_out),
        "champion_dev_macro_f1": challenge.champion_macro_f1,
        "challenger_dev_macro_f1": challenge.challenger_macro_f1,
        **challenge.macro_f1_gain.to_dict("macro_f1_gain"),
        **accuracy.difference.to_dict("accuracy_gain"),
        "mcnemar_p": accuracy.mcnemar.p_value,
    }


def _metadata(
    registry: Registry,
    entry: Entry,
    challenge: Challenge | None,
    test: dict[str, dict[str, Any] | None],
) -> dict[str, Any]:
    import pandas as pd

    settings = registry.settings
    history = pd.DataFrame([asdict(one) for one in registry.history()[-_SHOWN:][::-1]])
    known = {} if challenge is None else challenge.to_dict()
    figures = [
        {
            "model": who,
            "dev macro_f1": _shown(known, f"{who}_macro_f1"),
            **{f"test {name}": _shown(test[who] or {}, name) for name in _TEST_FIGURES},
        }
        for who in ("champion", "challenger")
    ]
    return {
        "verdict": entry.verdict,
        "why": entry.why,
        "challenger": entry.version,
        "champion_before": entry.before or "none",
        "champion": entry.after or "none",
        "registered_model": dg.MetadataValue.url(
            f"{settings.mlflow_ui_url.rstrip('/')}/#/models/{registry.name}"
        ),
        "path": path_value(champion_file(settings, registry.stream)),
        **({} if challenge is None else _figures(challenge)),
        "figures": markdown_table(pd.DataFrame(figures)),
        "history": markdown_table(history),
    }


def _shown(figures: dict[str, Any], name: str) -> str:
    value = figures.get(name)
    return "-" if value is None else f"{value:.3f}"

"""Training like a past run: made again whatever is up to date, and compared with what it was."""

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import AssetKey, DagsterInstance
from rich.console import Console

from fer_pipeline.build import build_definitions
from fer_pipeline.plan import asset_states, downstream
from fer_pipeline.repeat import PastTraining, differences, scores_on_dev
from fer_pipeline.runner import Outcome, run_graph
from fer_pipeline.settings import Settings
from fer_pipeline.source_commit import git_commit
from fer_pipeline.terminal import say

_MANIFEST = "class_manifest"
_WORDS = {"dev_accuracy": "accuracy", "dev_macro_f1": "macro-F1", "dev_nll": "NLL"}


def run_again(
    settings: Settings,
    instance: DagsterInstance,
    past: PastTraining,
    console: Console,
    *,
    select: Sequence[str] = (),
    force: bool = False,
) -> Outcome:
    """Make the manifest, say what isn't as it was, then train the past run's streams once more.

    With `select` only these assets and what they need are made, as `run_graph` does.
    """
    for words in _unlike(settings, past):
        say(console, words, style="yellow")
    first = run_graph(
        settings,
        instance,
        select=select or [_MANIFEST],
        force=force and bool(select),
        console=console,
    )
    if not first.ok:
        return first
    _tell_manifest(instance, past, console)
    if select:
        return first
    states = asset_states(build_definitions(settings), instance, settings)
    keys = [AssetKey([stream, "trained_model"]) for stream in _streams(settings, past)]
    targets = sorted(key.to_user_string() for key in downstream(states, keys))
    second = run_graph(settings, instance, select=targets, force=True, console=console)
    second.made = [*first.made, *second.made]
    second.skipped -= len(first.made)
    return second


def compared(
    settings: Settings, past: PastTraining, found: Mapping[str, Any], console: Console
) -> dict[str, Any]:
    """The past training's scores on dev beside those of the models there are now, also said.

    `found` is the summary of the run. Streams without a model that is up to date are left out.
    """
    scores = {}
    for stream in _streams(settings, past):
        if stream not in past.runs or stream not in found["streams"]:
            continue
        was = scores_on_dev(settings, past.runs[stream])
        now = scores_on_dev(settings, found["streams"][stream]["mlflow_run_id"])
        scores[stream] = {"was": was, "now": now}
        if was and now:
            words = ", ".join(
                f"{_WORDS[name]} {now[name]:.4f} "
                f"({'as it was' if now[name] == was[name] else f'was {was[name]:.4f}'})"
                for name in now
            )
            say(console, f"{stream} on dev: {words}")
    return {
        "run_id": past.run_id,
        "manifest_hash": past.manifest_hash,
        "same_manifest": found.get("manifest_hash") == past.manifest_hash,
        "dev": scores,
    }


def _tell_manifest(instance: DagsterInstance, past: PastTraining, console: Console) -> None:
    event = instance.get_latest_materialization_event(AssetKey(_MANIFEST))
    made = event.asset_materialization if event is not None else None
    digest = made.metadata["manifest_hash"].value if made is not None else None
    if digest != past.manifest_hash:
        say(
            console,
            f"the manifest is now {digest} and run {past.run_id} trained on {past.manifest_hash}: "
            "its lists, photos, corrections or settings changed since, so figures will differ",
            style="yellow",
        )


def _streams(settings: Settings, past: PastTraining) -> list[str]:
    """The past run's streams, or the active ones where others were asked for."""
    again = [stream for stream in settings.streams if stream in past.runs]
    return again or list(settings.streams)


def _unlike(settings: Settings, past: PastTraining) -> list[str]:
    """Sentences on what differs from the past run before anything is made."""
    found = []
    changed = differences(past, settings)
    if changed:
        found.append(f"not as in run {past.run_id}: {'; '.join(changed)}")
    commit = git_commit()
    if commit != past.git_commit:
        found.append(
            f"run {past.run_id} was made by version {past.git_commit} and this is {commit}: "
            "where training changed between them, figures will differ"
        )
    unknown = sorted(past.settings.keys() - Settings.model_fields.keys())
    if unknown:
        found.append(
            f"run {past.run_id} was made with settings that this version doesn't have: "
            f"{', '.join(unknown)}"
        )
    return found

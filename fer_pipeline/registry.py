"""The registered models of the streams: versions, the alias `champion`, and why it moved.

The registry is the truth: the alias says who holds it, tags of the versions say what was decided
and why, so that every home and machine on one server sees the same. Who may move the alias, and
the file that tells of it, are the business of `champion.py`.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from fer_pipeline import tracking, training_groups
from fer_pipeline.core.challenge import Verdict
from fer_pipeline.core.errors import BusyError, InputError
from fer_pipeline.core.model_file import ModelCard, read_card
from fer_pipeline.settings import Settings
from fer_pipeline.tracking_server import shown_tracking_uri

ALIAS = "champion"
VERDICT_TAG = "fer.champion.verdict"
WHY_TAG = "fer.champion.why"
DEMOTED_TAG = "fer.champion.demoted"
"""Tag of a version that a person took the alias from: no run gives it back."""

_ENTRY_TAG = "fer.champion.at."
_MOVE_TAG = "fer.champion.move"
"""Tag of a version that is about to get the alias: its entry, until that is written down."""
_BY_PEOPLE = (Verdict.BY_HAND, Verdict.ROLLED_BACK)
_MOVES = (Verdict.FIRST, Verdict.PROMOTED, *_BY_PEOPLE)


@dataclass(frozen=True)
class Entry:
    """One decision: about `version`, made `at` (ISO 8601, UTC), by whom or what, and why.

    `before` and `after` are the versions that held the alias; equal where it didn't move, None
    where there was none.
    """

    at: str
    verdict: str
    version: str
    before: str | None
    after: str | None
    by: str
    why: str


class AliasMovedError(BusyError):
    """The alias was moved by someone else since it was asked for."""


class Registry:
    """The versions, the alias and the history of one stream's registered model."""

    def __init__(self, settings: Settings, stream: str) -> None:
        """Look at the registry that these settings name."""
        self.settings, self.stream = settings, stream
        self.name = tracking.registered_name(stream)
        self._client = tracking.connect(settings)
        # What a version was registered with never changes, and may come from far away.
        self._files: dict[str, Path] = {}
        self._groups: dict[str, pa.Table | None] = {}

    def champion(self) -> str | None:
        """The version that holds the alias now, None where none does."""
        return self.aliases().get(ALIAS)

    def aliases(self) -> dict[str, str]:
        """The version that each alias names, people's own included.

        MLflow's versions, as `versions` finds them, don't tell theirs.
        """
        from mlflow.exceptions import MlflowException

        try:
            known = self._client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {name: str(version) for name, version in known.items()}

    def versions(self) -> dict[str, Any]:
        """Every version as MLflow knows it, by its number as text, the oldest first."""
        found = self._client.search_model_versions(f"name='{self.name}'")
        return {str(one.version): one for one in sorted(found, key=lambda one: int(one.version))}

    def version(self, number: str) -> Any:
        """One version; raises InputError when there is none of that number."""
        known = self.versions()
        if number not in known:
            there = f"has the versions {', '.join(known)}" if known else "has no version"
            raise InputError(
                f"{self.name} has no version {number} in {shown_tracking_uri(self.settings)}: "
                f"it {there}"
            )
        return known[number]

    def history(self) -> list[Entry]:
        """What was decided, the oldest first; versions that were deleted took theirs along."""
        versions = self.versions()
        entries = {
            entry.at: entry
            for one in versions.values()
            for key, value in one.tags.items()
            if key.startswith(_ENTRY_TAG)
            for entry in [_entry(value)]
        }
        unwritten = _unwritten(versions, self.champion())
        if unwritten is not None:
            entries[unwritten.at] = unwritten
        return sorted(entries.values(), key=lambda entry: entry.at)

    def previous(self) -> str | None:
        """Who held the alias before its holder did, among the versions that are still there.

        See `previous_holder`.
        """
        return previous_holder(self.history(), set(self.versions()), self.champion())

    def decide(
        self,
        verdict: Verdict,
        version: str,
        *,
        before: str | None,
        by: str,
        why: str,
    ) -> Entry:
        """Write a decision down and, where it is a move, give `version` the alias.

        To be called under `champion.locked`. `before` is the holder that the decision was made
        against; raises AliasMovedError when another one holds the alias by now. A refusal that
        says the same as the version's last one isn't written again, nor is that the champion stays.
        """
        now = self.champion()
        if now != before:
            raise AliasMovedError(
                f"the alias {ALIAS} of {self.name} went from {held_by(before)} to {held_by(now)} "
                "meanwhile: look at it again"
            )
        unwritten = _unwritten(self.versions(), now)
        if unwritten is not None:
            self._write(unwritten)
        after = version if verdict in _MOVES else before
        entry = Entry(_now(), verdict.value, version, before, after, by, why)
        if verdict == Verdict.KEPT:
            return entry
        known = [one for one in self.history() if one.version == version]
        if verdict not in _MOVES and known and _same(known[-1], entry):
            return known[-1]
        if verdict in _MOVES:
            # The reason first, for a process that is killed before all is written down: alone it
            # says nothing, with the alias on its version it is part of the history.
            self._tag(version, _MOVE_TAG, json.dumps(asdict(entry)))
            self._client.set_registered_model_alias(self.name, ALIAS, version)
        self._write(entry)
        return entry

    def _write(self, entry: Entry) -> None:
        """Write an entry, and what follows from it, to the versions that it is about."""
        version, before = entry.version, entry.before
        stamp = re.sub(r"\D", "", entry.at)[:20]
        self._tag(version, _ENTRY_TAG + stamp, json.dumps(asdict(entry)))
        self._tag(version, VERDICT_TAG, entry.verdict)
        self._tag(version, WHY_TAG, entry.why)
        if entry.verdict in _BY_PEOPLE:
            self._client.delete_model_version_tag(self.name, version, DEMOTED_TAG)
            if before is not None and before != version and before in self.versions():
                self._tag(before, DEMOTED_TAG, _by(entry))
        if entry.verdict in _MOVES:
            self._client.delete_model_version_tag(self.name, version, _MOVE_TAG)

    def taken_by_hand(self, version: str) -> str | None:
        """By whom the alias was taken from this version and why, None where no person did that.

        MLflow's own means leave no reason, commands of this package do.
        """
        tags, now = self.version(version).tags, self.champion()
        if DEMOTED_TAG in tags:
            return str(tags[DEMOTED_TAG])
        moves = [entry for entry in self.history() if entry.verdict in _MOVES]
        if now == version or not moves:
            return None
        last = moves[-1]
        if last.verdict in _BY_PEOPLE and last.before == version:
            return _by(last)
        if last.after != version:
            return None
        where = "took it away" if now is None else f"gave it to version {now}"
        return f"by somebody who {where} in MLflow"

    def trained_groups(self, version: str) -> pa.Table | None:
        """What a version has learned from, in a column `group_id`; None where its run kept nothing.

        See `training_groups.TRAINING_GROUPS`.
        """
        if version not in self._groups:
            run_id = self.version(version).run_id
            kept = training_groups.groups_of_run(self.settings, run_id) if run_id else None
            self._groups[version] = kept
        return self._groups[version]

    def unknown_start(self, version: str) -> str | None:
        """What a version's training started from, where not all that has learned from is known."""
        run_id = self.version(version).run_id
        return training_groups.unknown_start(self.settings, run_id) if run_id else None

    def run_metrics(self, version: str) -> dict[str, float]:
        """The last values of the metrics of the run that made a version."""
        run_id = self.version(version).run_id
        return dict(self._client.get_run(run_id).data.metrics) if run_id else {}

    def run_parameters(self, version: str) -> dict[str, str]:
        """The parameters of the run that made a version."""
        run_id = self.version(version).run_id
        return dict(self._client.get_run(run_id).data.params) if run_id else {}

    def run_tags(self, version: str) -> dict[str, str]:
        """The tags of the run that made a version."""
        run_id = self.version(version).run_id
        return dict(self._client.get_run(run_id).data.tags) if run_id else {}

    def card(self, version: str) -> ModelCard:
        """The card of a version's model file."""
        return read_card(self.file(version))

    def file(self, version: str) -> Path:
        """A version's model file, on this machine; raises InputError when there is none."""
        if version not in self._files:
            self.version(version)
            self._files[version] = tracking.model_file(self.settings, self.model_uri(version))
        return self._files[version]

    def model_uri(self, version: str) -> str:
        """The MLflow address of a version."""
        return f"models:/{self.name}/{version}"

    def _tag(self, version: str, key: str, value: str) -> None:
        self._client.set_model_version_tag(self.name, version, key, value)


def previous_holder(
    history: Sequence[Entry], known: Collection[str], now: str | None
) -> str | None:
    """Who held the alias before `now` did, among the `known` versions; None for nobody.

    A rollback takes back what came since: a second one goes one step further back.
    """
    holders: list[str] = []
    for entry in history:
        if entry.verdict not in _MOVES or entry.after is None:
            continue
        if entry.verdict == Verdict.ROLLED_BACK and entry.after in holders:
            while holders[-1] != entry.after:
                holders.pop()
        else:
            holders.append(entry.after)
    left = [held for held in holders if held in known and held != now]
    return left[-1] if left else None


def held_by(version: str | None) -> str:
    """A holder of the alias in words."""
    return "no version" if version is None else f"version {version}"


def _by(entry: Entry) -> str:
    return f"by {entry.by}: {entry.why}"


def _entry(text: str) -> Entry:
    return Entry(**json.loads(text))


def _unwritten(versions: Mapping[str, Any], now: str | None) -> Entry | None:
    """The move that `now` holds the alias by, where it was made and its process killed then."""
    holder = None if now is None else versions.get(now)
    text = None if holder is None else holder.tags.get(_MOVE_TAG)
    return None if text is None else _entry(text)


def _same(one: Entry, other: Entry) -> bool:
    return (one.verdict, one.before, one.why) == (other.verdict, other.before, other.why)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")

"""The tested versions of constraints.txt."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fer_pipeline_tests.deploy.native import ROOT

PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+]+)")


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = {line: PIN.fullmatch(line) for line in lines if not line.startswith("#")}
    strange = [line for line, match in matches.items() if match is None]
    assert not strange, f"not a name and a version: {strange}"
    return {canonicalize_name(match[1]): match[2] for match in matches.values() if match}


def _direct_dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    # The other extras stand for machines that the tests do not run on.
    names = [*project["dependencies"], *extras["dev"], *extras["postgres"]]
    return [Requirement(name) for name in names]


def test_constraints_are_names_and_versions_without_addresses() -> None:
    assert len(_pins()) > 100


def test_every_direct_dependency_is_pinned_within_its_bounds() -> None:
    pins = _pins()
    for requirement in _direct_dependencies():
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


def test_both_builds_of_tensorflow_have_one_version() -> None:
    pins = _pins()
    assert pins["tensorflow"] == pins["tensorflow-cpu"]


def test_installers_are_left_to_the_environment() -> None:
    assert not {"pip", "setuptools", "wheel", "fer-pipeline"} & set(_pins())

"""What is packed when the package is built: the code, and the data that it needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fer_pipeline.core.starter import starter_card_file, starter_file

TREE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    ended = subprocess.run(words, cwd=TREE, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_starter_model_and_its_card(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for file in (starter_file(), starter_card_file()):
            name = f"fer_pipeline/starter/{file.name}"
            assert archive.read(name) == file.read_bytes()


def test_wheel_holds_the_templates_and_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    kinds = ("*.py", "*.j2")
    wanted = {
        path.relative_to(TREE).as_posix()
        for kind in kinds
        for path in (TREE / "fer_pipeline").rglob(kind)
    }
    assert wanted <= packed
    assert not [name for name in packed if name.startswith("fer_pipeline_tests/")]

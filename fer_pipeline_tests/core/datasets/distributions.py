"""Distributions that bring formats, written into a folder as an installer leaves them."""

from pathlib import Path

GROUP = "fer_pipeline.datasets"


def install(
    site: Path, package: str, entry_points: dict[str, str], module: str, source: str
) -> Path:
    """Write a module and the dist-info folder of a package into `site`."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(source)
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")
    return site

"""The cost table of docs/scale.md from a few measured rates: `python -m benchmarks.scale_cost`.

The rates are those of docs/performance.md; change them here, run this, and the table follows.
"""

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- rates -->", "<!-- /rates -->"


@dataclass(frozen=True)
class Rates:
    """What one core does."""

    index_rate: float = 150_000
    """Rows of the lists a second, the digest of the lists and the count of their rows included."""
    manifest_rate: float = 100_000
    """Rows a second, photos of equal size hashed."""
    crop_rate: float = 500
    """Faces with a listed box a second: 60 MB of JPEG, the slowest rate measured."""
    start: float = 4.0
    """Seconds from a step's submission to Ray to its first line of work, and from its last."""
    photo_bytes: float = 120_000
    """Bytes of a photo."""
    crop_bytes: float = 2_400
    """Bytes of a face in a shard, 48 px grey."""
    shards: int = 64
    """Shards of the crops: as many as the planner makes of much work, as long as FER_SHARD_ROWS
    asks for no more."""


def cost_table(rates: Rates, faces: int = 1_000_000, cpus: tuple[int, ...] = (1, 2, 16, 64)) -> str:
    """The rates and what `faces` faces cost with them, in Markdown."""
    serial = faces / rates.index_rate + faces / rates.manifest_rate
    spread = faces / rates.crop_rate + rates.shards * rates.start
    # With fewer shards than CPUs the rest stand idle.
    seconds = {count: spread / min(count, rates.shards) for count in cpus}
    lines = [
        f"With index_rate {rates.index_rate:,.0f} rows/s, manifest_rate "
        f"{rates.manifest_rate:,.0f} rows/s, crop_rate {rates.crop_rate:,.0f} faces/s on one "
        f"core, start {rates.start:.0f} s, photos of {rates.photo_bytes / 1e3:,.0f} kB, "
        f"{rates.crop_bytes:,.0f} bytes a crop and {rates.shards} shards:",
        "",
        f"| {faces:,} faces | |",
        "|---|---|",
        f"| read | {faces * rates.photo_bytes / 1e9:,.0f} GB |",
        f"| written | {faces * rates.crop_bytes / 1e9:,.1f} GB |",
        f"| core-hours | {(serial + spread) / 3600:.2f} |",
        *(
            f"| on {count} CPU{'s' * (count > 1)} | {(serial + seconds[count]) / 60:.1f} minutes, "
            f"reading {faces * rates.photo_bytes / seconds[count] / 1e6:,.0f} MB/s |"
            for count in cpus
        ),
    ]
    return "\n".join(lines)


def page_with(page: str, table: str) -> str:
    """The page with this table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(), cost_table(Rates())))

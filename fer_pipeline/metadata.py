"""What the Dagster UI shows of an asset: pictures, tables, schemas, as metadata values."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from fer_pipeline.core.png import png_as_markdown, shrink_png
from fer_pipeline.core.storage import Location, file_stamps, relative_name
from fer_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


FILES = "files"
"""Metadata key: the files of an asset that others read, see `published_files`."""


def published_files(settings: Settings, *paths: Location) -> dg.JsonMetadataValue:
    """Name (under the home) and stamp of each file, so that a later run sees a change."""
    names = [relative_name(path, settings.home) for path in paths]
    return dg.MetadataValue.json(dict(zip(names, file_stamps(paths), strict=True)))


def path_value(path: Location) -> dg.PathMetadataValue:
    """A path or an address as the UI shows it."""
    return dg.MetadataValue.path(str(path))


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    """A PNG that the UI shows, made small enough for the event log."""
    return dg.MetadataValue.md(png_as_markdown(shrink_png(png), alt))


def markdown_table(table: "pd.DataFrame") -> dg.MarkdownMetadataValue:
    """A small table as the UI renders it best."""
    head = "| " + " | ".join(map(str, table.columns)) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in table.itertuples(index=False)]
    return dg.MetadataValue.md("\n".join([head, rule, *rows]))


def _cell(value: object) -> str:
    """A value as text: names of people are whatever they type, markup included."""
    return re.sub(r"[\\`<|\[]", r"\\\g<0>", str(value))


def counts_table(counts: Mapping[str, object], names: Sequence[str]) -> dg.MarkdownMetadataValue:
    """A mapping as a table of two columns with these names."""
    import pandas as pd

    return markdown_table(pd.DataFrame(list(counts.items()), columns=list(names)))


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """An Arrow schema as the UI's table of columns."""
    return dg.TableSchema([dg.TableColumn(field.name, str(field.type)) for field in schema])


def counts_by_source(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dg.MetadataValue[Any]]:
    """Metadata of a mixture: for each data set its counts; none of one data set alone."""
    import pandas as pd

    if len(counts) < 2:
        return {}
    rows = [{"data set": source, **of_source} for source, of_source in counts.items()]
    return {"by_data_set": markdown_table(pd.DataFrame(rows))}

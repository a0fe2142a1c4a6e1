"""Options that commands of several modules share."""

from typing import Annotated

import typer

Home = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Folder or address for everything a run leaves (FER_HOME, ./fer-home).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line of stdout.")]
Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="starter (the package's own), a .keras file, an exported .onnx file, or an MLflow "
        "address such as models:/fer-five_class@champion.",
    ),
]
DatasetOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset-option",
        metavar="FORMAT.OPTION=VALUE",
        help="Choose how a format is read (docs/datasets.md); may be given again.",
    ),
]

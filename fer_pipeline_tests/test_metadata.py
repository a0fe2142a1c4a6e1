"""What the Dagster UI shows of an asset."""

import pandas as pd

from fer_pipeline.metadata import markdown_table


def test_what_people_typed_is_text_in_a_table() -> None:
    names = ["Bo <b>", "a | b", "[x](http://example.org)", "`code`", "back\\"]
    table = markdown_table(pd.DataFrame({"annotator": names, "answers": range(5)})).value
    assert table.splitlines()[2:] == [
        r"| Bo \<b> | 0 |",
        r"| a \| b | 1 |",
        r"| \[x](http://example.org) | 2 |",
        r"| \`code\` | 3 |",
        r"| back\\ | 4 |",
    ]

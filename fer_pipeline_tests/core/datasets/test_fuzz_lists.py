"""A whole list with bytes changed at random: every row is kept or rejected, and all are counted."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import count_kept_and_rejected
from fer_pipeline_tests.core.datasets.damage import damaged
from fer_pipeline_tests.core.small_release import HEADER, LISTS, indexed, line, write_list

_LANDMARKS = ";".join(f"{number}.25" for number in range(136))
_WHOLE = "".join(
    f"{row}\n"
    for row in (
        HEADER,
        *(
            line(
                f"{number}/{number:040x}.jpg", (number, 5, 60, 70), expression=number % 11
            ).replace("1.5;2.5", _LANDMARKS)
            for number in range(12)
        ),
        line("11/quoted.jpg").replace("1.5;2.5", f'"{_LANDMARKS}"'),
    )
).encode()
_PIECES = [b"", b",", b"\n", b"\r", b"\r\n", b'"', b"\x00", b"\xff", b"\xef\xbb\xbf", b";", b"-2"]
_PIECES += [b"NULL", b"99999999999", b"1e400", b"../", b"\\", b"," * 20, b"\n" * 5, b"\x1a", b"9.5"]


@given(data=damaged(_WHOLE, _PIECES, 8, [1, 2, 5, 40, 700]))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_of_a_damaged_list_are_kept_or_rejected_and_all_are_counted(
    tmp_path: Path, data: bytes
) -> None:
    root = tmp_path / "any"
    write_list(root, "manual_train", data)
    write_list(root, "manual_val", [line()])
    refusal = ""
    try:
        summary, kept, rejected = indexed(root, tmp_path / "index")
    except InputError as error:
        refusal = str(error)
    if refusal:
        # Only a damaged header, and a stray quote, are refused as a whole, in one sentence that
        # names the file.
        stray = "a quote too many or too few" in refusal
        assert b'"' in data if stray else not data.startswith(HEADER.encode() + b"\n")
        assert LISTS["manual_train"] in refusal
        assert "\n" not in refusal
        return
    assert summary.rows_read == len(kept) + len(rejected)
    assert summary.rows_by_list["manual_train"] == open_dataset("affectnet", root).count_rows(
        "manual_train"
    )
    assert all(whole for _, _, whole in count_kept_and_rejected(tmp_path / "index").values())
    assert all(row["reason"] for row in rejected)
    numbers = sorted(
        row["row"] for rows in (kept, rejected) for row in rows if row["list"] == "manual_train"
    )
    assert len(set(numbers)) == len(numbers)

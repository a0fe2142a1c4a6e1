"""The fields of a form that was read into memory; files never go through the disk."""

from collections.abc import Sequence

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header


def parts_of(body: bytes, boundary: bytes, known: Sequence[str]) -> dict[str, bytes]:
    """Content by field name; raises HTTPException for a damaged form and for unknown fields."""
    form = _Form(known)
    if not boundary:
        raise HTTPException(400, "the Content-Type of the form names no boundary")
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_end,
                "on_part_data": form.data,
                "on_part_end": form.end,
                "on_end": form.finish,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, "the form is damaged") from error
    if not form.finished:
        raise HTTPException(400, "the form ends before its last boundary")
    return form.parts


class _Form:
    def __init__(self, known: Sequence[str]) -> None:
        self.parts: dict[str, bytes] = {}
        self.finished = False
        self._known = known

    def begin(self) -> None:
        self._name, self._value, self._disposition = b"", b"", b""
        self._content = bytearray()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if self._field not in self._known:
            fields = ", ".join(self._known)
            raise HTTPException(422, f"the form has a field that isn't known: give {fields}")
        if self._field in self.parts:
            raise HTTPException(422, f"the form has {self._field} twice")

    def data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def end(self) -> None:
        self.parts[self._field] = bytes(self._content)

    def finish(self) -> None:
        self.finished = True

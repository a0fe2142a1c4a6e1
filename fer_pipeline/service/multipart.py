"""The fields of a form, of one that was read into memory or as it comes.

Pictures never go through the disk; a video's file does, in `uploads.py`.
"""

from collections.abc import Sequence

from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header


def parts_of(body: bytes, boundary: bytes, known: Sequence[str]) -> dict[str, bytes]:
    """Content by field name; raises HTTPException for a damaged form and for unknown fields."""
    form = Form(boundary, known)
    form.feed(body)
    form.close()
    return form.parts


class Form:
    """A form that is taken in pieces; raises HTTPException where it is damaged."""

    def __init__(self, boundary: bytes, known: Sequence[str]) -> None:
        """`known` are the names of the fields that it may have, each once."""
        if not boundary:
            raise HTTPException(400, "the Content-Type of the form names no boundary")
        self.parts: dict[str, bytes] = {}
        self._known = known
        self._finished = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self.take,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        except FormParserError as error:
            raise HTTPException(400, "the form is damaged") from error

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise HTTPException(400, "the form is damaged") from error

    def close(self) -> None:
        """Check that the form is whole."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise HTTPException(400, "the form is damaged") from error
        if not self._finished:
            raise HTTPException(400, "the form ends before its last boundary")

    def take(self, data: bytes, start: int, end: int) -> None:
        """Keep `data[start:end]`, which belongs to the field `field`."""
        self._content += data[start:end]

    def _begin(self) -> None:
        self._name, self._value, self._disposition = b"", b"", b""
        self._content = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self.field = options.get(b"name", b"").decode("utf-8", "replace")
        if self.field not in self._known:
            fields = ", ".join(self._known)
            raise HTTPException(422, f"the form has a field that isn't known: give {fields}")
        if self.field in self.parts:
            raise HTTPException(422, f"the form has {self.field} twice")

    def _end(self) -> None:
        self.parts[self.field] = bytes(self._content)

    def _finish(self) -> None:
        self._finished = True

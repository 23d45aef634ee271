"""What the status codes are called (RFC 9110 section 15). Below everything, so that an error can say what it is."""

from __future__ import annotations

from http import HTTPStatus

# CPython 3.11's table still has RFC 7231's phrases for four of these.
PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

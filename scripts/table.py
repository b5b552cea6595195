"""Formats rows as a table for people, or as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

Row = Mapping[str, object]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield rows with the same names as aligned lines, a header first; numbers are right-aligned."""
    if not rows:
        return
    names = list(rows[0])
    cells = [names, *([as_text(row[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_number = [all(isinstance(row[name], int | float | None) for row in rows) for name in names]
    for line in cells:
        parts = zip(line, widths, is_number, strict=True)
        yield "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in parts).rstrip()


def csv_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield rows as CSV (RFC 4180), a header first. Texts that a spreadsheet would run as formulas get a `'`."""
    for cells in ([list(rows[0])] if rows else []) + [[_safe(cell) for cell in row.values()] for row in rows]:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        yield line.getvalue()


def as_text(value: object) -> str:
    """Return a value as text: numbers without an exponent, a list's items side by side, an empty value as a dash."""
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(as_text(each) for each in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{part}: {as_text(of)}" for part, of in value.items())
    return f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value)


def _safe(cell: object) -> object:
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{cell}"
    return as_text(cell) if isinstance(cell, float | list) else cell

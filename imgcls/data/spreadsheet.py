"""Tables as CSV that is safe to open in a spreadsheet program."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = tuple("=+-@＝＋－＠\t\r\n")  # a cell that starts so may be run as a formula


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text with a header; None and NaN become empty cells.

    Text that a spreadsheet would run as a formula gets a leading apostrophe; numbers stay numbers.
    Source: OWASP, "CSV Injection".
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # ends lines as RFC 4180 has it, and so quotes both \r and \n
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None or value != value:  # NaN alone differs from itself
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

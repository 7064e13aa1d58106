"""QR codes as one SVG path: drawn in the page itself, so that a link's secret is in no other address."""

from __future__ import annotations

BORDER = 4
"""Modules of white around it, as readers need."""


def qr_path(text: str) -> tuple[str, int]:
    """The dark modules of a text's QR code as an SVG path, and the side of the square that it is drawn in."""
    import qrcode

    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_M, border=0)
    code.add_data(text)
    code.make(fit=True)
    rows = code.get_matrix()
    runs = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            end = x
            while end < len(row) and row[end]:
                end += 1
            if end > x:
                runs.append(f"M{x + BORDER} {y + BORDER}h{end - x}v1h-{end - x}z")
            x = end + 1
    return "".join(runs), len(rows) + 2 * BORDER

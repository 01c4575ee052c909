"""A bar chart of ratios, as an SVG file that needs nothing to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["draw"]

_ROW, _LEFT, _WIDE, _TOP = 26, 330, 420, 46


def draw(title: str, rows: Sequence[tuple[str, float, float | None]], unit: str) -> str:
    """Return a chart of ours against the git program's, which is the line at 1.

    Args:
        title: What was measured, where.
        rows: Label, ratio, and the floor's ratio if it was measured.
        unit: What the ratio is of.
    """
    most = max(1.1, *(ratio for _, ratio, _ in rows))
    scale = _WIDE / most
    height = _TOP + _ROW * len(rows) + 34
    one = _LEFT + scale
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDE + 70}" '
            f'height="{height}" font-family="sans-serif" font-size="13">'
        ),
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, ratio, floor) in enumerate(rows):
        y = _TOP + number * _ROW
        colour = "#2f6f9f" if ratio <= 1 else "#b5532b"
        out.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        out.append(
            f'<rect x="{_LEFT}" y="{y + 3}" width="{ratio * scale:.1f}" height="16" '
            f'fill="{colour}"/>'
        )
        out.append(f'<text x="{_LEFT + ratio * scale + 6:.1f}" y="{y + 15}">{ratio:.2f}</text>')
        if floor is not None:
            x = _LEFT + floor * scale
            out.append(
                f'<line x1="{x:.1f}" y1="{y + 1}" x2="{x:.1f}" y2="{y + 21}" stroke="#222222" '
                'stroke-width="2"/>'
            )
    out += [
        (
            f'<line x1="{one:.1f}" y1="{_TOP - 6}" x2="{one:.1f}" y2="{height - 30}" '
            'stroke="#888888" stroke-dasharray="4 3"/>'
        ),
        f'<text x="{one:.1f}" y="{height - 12}" text-anchor="middle" fill="#555555">git = 1</text>',
        f'<text x="12" y="{height - 12}" fill="#555555">{escape(unit)}</text>',
        "</svg>",
    ]
    return "\n".join(out) + "\n"

"""The results as an SVG: each goal a bar, 1 being what is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT, BAR = 860, 30, 400, 300


def draw(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """An SVG that is readable in light and dark."""
    height = ROW * (len(rows) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13">',
        "<title>Relay's measured figures against its goals</title>",
        "<style>text{fill:#1c2526}.met{fill:#0b6b61}.missed{fill:#a32a1f}.line{stroke:#5c6668}"
        "@media(prefers-color-scheme:dark){text{fill:#e9e7e1}.met{fill:#5cc7b8}"
        ".missed{fill:#ff9a8c}.line{stroke:#a4adae}}</style>",
        f'<text x="10" y="20">{escape(_about(about))}</text>',
    ]
    for number, row in enumerate(rows, 1):
        y = ROW * number + 8
        # How many times better than wanted, capped so that one long bar does not flatten the rest.
        length = min(_times_better(row), 2.0) / 2.0 * BAR
        label = f"{row['value']:.2f} {row['unit']}".strip()
        lines += [
            f'<text x="10" y="{y + 15}">{escape(row["what"])}</text>',
            f'<rect class="{"met" if row["met"] else "missed"}" x="{LEFT}" y="{y}" '
            f'width="{length:.0f}" height="20" rx="3"/>',
            f'<text x="{LEFT + BAR + 12}" y="{y + 15}">{escape(label)}</text>',
        ]
    middle = LEFT + BAR // 2
    end = ROW * (len(rows) + 1) + 4
    lines.append(
        f'<line class="line" x1="{middle}" y1="{ROW}" x2="{middle}" y2="{end}" '
        f'stroke-dasharray="4"/>'
        f'<text x="{middle}" y="{end + 16}" text-anchor="middle">wanted</text></svg>'
    )
    return "\n".join(lines) + "\n"


def _times_better(row: Mapping[str, Any]) -> float:
    value, wanted = float(row["value"]), float(row["wanted"])
    if not row["at_least"]:
        value, wanted = wanted, value
    if not wanted:  # none is wanted, or none was measured
        return 2.0 if row["met"] else 0.0
    return value / wanted


def _about(about: Mapping[str, Any]) -> str:
    return f"{about['date']}, Python {about['python']}, {about['cores']} cores. Longer is better."

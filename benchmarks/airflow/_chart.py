"""Wall times as bars, in one SVG that is readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.airflow._dags import ARMS, DBT
from benchmarks.airflow._report import ratio
from benchmarks.airflow._result import Result

_LEFT, _WIDTH, _ROW, _BAR = 330, 560, 22, 14
_STYLE = (
    "text{font:12px sans-serif;fill:#777}.head{font-weight:bold}.dbt{fill:#999}.own{fill:#2a7ab8}.cosmos{fill:#c98a1b}.stuck{fill:#b3363c}"
)


def chart(results: Sequence[Result]) -> str:
    """A bar for each run, by project; the longest has the whole width."""
    longest = max(result.wall for result in results)
    parts: list[str] = []
    row = 0
    for project in dict.fromkeys(result.project for result in results):
        parts.append(f'<text class="head" x="4" y="{row * _ROW + 16}">{escape(project)}, seconds (times `dbt build`)</text>')
        row += 1
        for result in sorted((one for one in results if one.project == project), key=lambda one: (list(ARMS).index(one.arm), one.round)):
            parts.append(_bar(result, ratio(result, results), row * _ROW, result.wall / longest))
            row += 1
    size = f"{_LEFT + _WIDTH + 130} {row * _ROW + 6}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"><style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"


def _bar(result: Result, times: float | None, top: int, share: float) -> str:
    kind = "stuck" if result.state != "success" else "dbt" if result.arm == DBT.name else ARMS[result.arm].environment
    title = escape(f"{ARMS[result.arm].title}, {result.round + 1}".replace("`", ""))
    width = max(1, round(share * _WIDTH))
    words = f"{result.wall:.0f}" + (f" ({times:.2f})" if times else "") + ("" if result.state == "success" else f", {result.state}")
    return (
        f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{title}</text>'
        f'<rect class="{kind}" x="{_LEFT}" y="{top + 4}" width="{width}" height="{_BAR}" rx="2"/>'
        f'<text x="{_LEFT + width + 6}" y="{top + 15}">{words}</text>'
    )

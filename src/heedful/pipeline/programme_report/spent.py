"""What a programme cost, and what its last policy was made from."""

from __future__ import annotations

from heedful.pipeline.programme_report.material import Material
from heedful.pipeline.report_html import Safe, element


def costs(material: Material) -> Safe:
    return element("p", "TODO")


def lineage(material: Material) -> Safe:
    return element("p", "TODO")

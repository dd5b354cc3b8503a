"""What a run looks like to its reader: the self-contained report, the local trace viewer, the board of results."""

from stillroom.report.board import board
from stillroom.report.data import ReportData, load
from stillroom.report.html import build, render

__all__ = ["ReportData", "board", "build", "load", "render"]

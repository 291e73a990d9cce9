"""Reports: one HTML file that shows a study to people, without a network."""

from studies.report.write import report, write_report

__all__ = ["report", "write_report"]

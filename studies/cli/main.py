"""The command `studies`, put together."""

import typer

from studies.cli.comparing import compare
from studies.cli.listing import list_studies
from studies.cli.passing import dashboard, export, report
from studies.cli.running import resume, run, work
from studies.cli.showing import show

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run studies, show what they recorded, and hand it on.",
)
_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(context_settings=_THROUGH)(run)
app.command(context_settings=_THROUGH)(resume)
app.command("list")(list_studies)
for _command in (show, compare, export, report, dashboard, work):
    app.command()(_command)

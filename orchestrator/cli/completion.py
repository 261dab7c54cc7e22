"""`muster completion`: what a shell needs to complete commands, options, IDs and names after TAB."""

from __future__ import annotations

import click

from orchestrator.cli import output
from orchestrator.cli.session import Session, common, pass_session

VARIABLE = "_MUSTER_COMPLETE"
"""Set by the script when the shell asks us; click's own choice for `muster`."""


@click.command(no_args_is_help=True)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
@pass_session
@click.pass_context
def completion(context: click.Context, session: Session, shell: str) -> None:
    """Print what SHELL needs to complete commands, options, IDs and template names.

    IDs and names come from the service, which is asked for half a second at most.

    \b
    Examples:
      muster completion bash >> ~/.bashrc
      muster completion zsh > "${fpath[1]}/_muster"
      muster completion fish > ~/.config/fish/completions/muster.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not one of the shells that can be completed")
    script = kind(context.find_root().command, {}, "muster", VARIABLE).source()
    if session.json:
        output.document({"shell": shell, "script": script})
    else:
        click.echo(script)

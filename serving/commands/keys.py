"""`engram key`: API keys, in the store of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from serving.commands.console import ConfigFile, one_line_errors, read_settings, say
from serving.types import TenantId

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="Who the key belongs to; created if new.")],
    name: Annotated[str, typer.Option(help="What the key is for.")],
    admin: Annotated[bool, typer.Option("--admin", help="Also allow /admin.")] = False,
    config: ConfigFile = None,
) -> None:
    """Create an API key and print it, once."""
    from serving.app import open_store  # half a second that no other command should pay

    with one_line_errors():
        store = open_store(read_settings(config))
        store.keys.ensure_tenant(TenantId(tenant))
        scopes = ("inference", "admin") if admin else ("inference",)
        print(store.keys.create(TenantId(tenant), name, scopes))


@app.command("list")
def list_keys(
    tenant: Annotated[str, typer.Option(help="Whose keys.")], config: ConfigFile = None
) -> None:
    """Show a tenant's keys: id, first letters, name and whether they still hold."""
    from serving.app import open_store

    with one_line_errors():
        for key in open_store(read_settings(config)).keys.list(TenantId(tenant)):
            state = "revoked" if key.revoked_at else "valid"
            say(f"{key.id}  {key.prefix}…  {state}  {' '.join(key.scopes)}  {key.name}")


@app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The key's id, as `engram key list` shows it.")],
    config: ConfigFile = None,
) -> None:
    """End a key for good, on every replica within 5 seconds."""
    from serving.app import open_store

    with one_line_errors():
        open_store(read_settings(config)).keys.revoke(key)
        say(f"revoked {key}")

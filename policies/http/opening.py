"""How a connection is made: the best way to work with a server that was never seen before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from policies.http.client import Client
from policies.http.connection import Connection
from policies.http.probe import Probe, model_of
from policies.http.rendering import Chat, Local, Plain, Rendering, remote
from search.errors import ConfigError, PolicyError


async def connect(
    client: Client,
    model: str | None,
    route: str,
    tokenizer: str | None,
    template: bool,
    extra: Mapping[str, Any],
    max_context: int | None,
    seeded: bool,
) -> Connection:
    """Finds the best way to work with a server; raises ConfigError if there is none, with every reason."""
    name, told = await model_of(client, model)
    context = min((limit for limit in (told, max_context) if limit is not None), default=None)
    probe, reasons = Probe(client, name, extra, seeded), []
    for kind in ("tokens", "text", "chat") if route == "auto" else (route,):
        try:
            rendering, reason = await asyncio.to_thread(_rendering, client, name, kind, tokenizer, template)
            if rendering is None:
                reasons.append(f"{kind}: {reason}")
                continue
            if kind == "chat":
                found = await probe.chat(context)
            else:
                found = await (probe.tokens if kind == "tokens" else probe.text)(rendering, context)
        except PolicyError as error:  # no chat template, say
            reasons.append(f"{kind}: {error}")
            continue
        if isinstance(found, str):
            reasons.append(f"{kind}: {found}")
            continue
        abilities, asking = found
        return Connection(client, asking, abilities, rendering)
    raise ConfigError("route", route, f"this server cannot be used: {'; '.join(reasons)}")


def _rendering(
    client: Client, model: str, kind: str, tokenizer: str | None, template: bool
) -> tuple[Rendering | None, str]:
    """How prompts are made for a route; or None and why not."""
    if kind == "chat":
        return Chat(), ""
    if tokenizer is not None:
        return Local(tokenizer, ids=kind == "tokens"), ""
    if kind == "tokens":
        return remote(client.ask, model), "the server lends its tokenizer to nobody: give tokenizer=DIR"
    if not template:
        return Plain(), ""
    return None, "nobody knows the chat template: give tokenizer=DIR, or template=false for a base model"

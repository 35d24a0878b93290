"""Serves a policy of ours by OpenAI's API, on this machine unless told otherwise.

    python -m experiments.serve policy=embedded port=8000
    python -m experiments.solve policy=http policy.base_url=http://127.0.0.1:8000/v1 search=astar

Settings: those of the group `policy`; `host`, `port` (0 takes a free one), `name` of the model, and `key_env`, an
environment variable with the key that callers have to show. Exit status: 0 when interrupted, 2 for a setting that is
wrong.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from experiments import shadow

OWN: Mapping[str, Any] = {"host": "127.0.0.1", "port": 8000, "name": None, "key_env": None}


def main() -> None:
    """Reads the command line and serves until interrupted."""
    shadow.check()  # before anything is imported under a name that may be another's
    try:
        sys.exit(_main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(0)


def _main(arguments: Sequence[str]) -> int:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from experiments.commandline import CONF, explained
    from search.errors import ConfigError

    own, others = _own(arguments)
    try:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            composed = compose("config", overrides=others)
            settings: dict[str, Any] = OmegaConf.to_container(composed.policy, resolve=True)
        asyncio.run(serve(settings, **own))
    except ConfigError as error:
        return _fault(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _fault(explained(error, others))
    return 0


async def serve(policy: Mapping[str, Any], host: str, port: Any, name: str | None, key_env: str | None) -> None:
    """Serves the policy that these settings describe, and says where; ends when cancelled."""
    from experiments.listen import listen
    from experiments.parts import build
    from experiments.serving import Service
    from search.errors import ConfigError

    if not str(port).isdecimal() or not 0 <= int(port) < 2**16:
        raise ConfigError("port", port, "give a number from 0 to 65535")
    key = os.environ.get(key_env, "") if key_env else ""
    if key_env and not key:
        raise ConfigError("key_env", key_env, "this environment variable is not set")
    if not key and host not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigError("host", host, "others could reach it: name a key in key_env")
    async with AsyncExitStack() as stack:
        model = build("policy", policy)
        if hasattr(model, "__aenter__"):
            await stack.enter_async_context(model)
        served = name or policy["_target_"].rpartition(".")[2].lower()
        server = await listen(Service(model, served, key), host, int(port))
        async with server:
            sys.stderr.write(f"{served} at http://{host}:{server.sockets[0].getsockname()[1]}/v1\n")
            sys.stderr.flush()
            await server.serve_forever()


def _own(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings of the server, and what is left for the policy."""
    own, others = dict(OWN), []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in own:
            own[name] = value
        else:
            others.append(argument)
    return own, others


def _fault(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2


if __name__ == "__main__":
    main()

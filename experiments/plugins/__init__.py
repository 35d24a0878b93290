"""Plug-ins of hydra, which takes them from a package named `hydra_plugins` only."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from hydra.core.plugins import Plugins


def register() -> None:
    """Makes the launchers of sweeps known to hydra."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    Plugins.instance().register(import_module("hydra_plugins.treewise").Jobs)

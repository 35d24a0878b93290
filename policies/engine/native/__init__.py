"""The engine's forward on CPUs in C++, compiled where it runs."""

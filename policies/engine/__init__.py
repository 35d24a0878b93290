"""The embedded engine: continuous batching and a shared prefix cache over decoder-only models."""

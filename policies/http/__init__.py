"""A model behind any server that speaks OpenAI's completions or chat, as a policy."""

from policies.http.endpoint import Endpoint

__all__ = ["Endpoint"]

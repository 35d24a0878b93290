"""A model in vLLM's engine as a policy, in processes that this one starts; no server."""

from policies.vllm.policy import VLLM

__all__ = ["VLLM"]

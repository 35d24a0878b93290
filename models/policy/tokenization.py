"""The class that `trust_remote_code` loads; without trust, the library's own class of this kind is."""

from transformers import PreTrainedTokenizerFast


class AsWritten(PreTrainedTokenizerFast):
    """A tokenizer just as tokenizer.json has it."""

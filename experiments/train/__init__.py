"""Makes the reference models again: data, tokenizer, policy, verifier, draft model."""

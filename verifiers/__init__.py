"""Things that judge a prefix."""

"""Things that judge a prefix: process reward models, graders, exact checkers, and combinations of them."""

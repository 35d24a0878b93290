"""Things that continue a prefix."""

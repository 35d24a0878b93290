"""What the benchmark `peers` runs beside ours: servers both sides share, and drivers for other packages."""

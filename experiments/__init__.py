"""The only room that composes: the Hydra app, tasks, results, traces, reports, benchmarks."""

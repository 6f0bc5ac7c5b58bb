"""What the nodes of a run cost Airflow's triggerers as their number grows. `python -m benchmarks.scale --help`."""

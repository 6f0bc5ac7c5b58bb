"""What one DAG run costs beside `dbt build`, in a real Airflow on PostgreSQL. `python -m benchmarks.airflow --help`."""

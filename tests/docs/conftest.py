"""Pages are read where Airflow is, too."""

from __future__ import annotations

from tests.airflow_home import own_airflow_home

own_airflow_home()

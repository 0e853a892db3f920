"""Programs that run in Airflow's own environment: make airflow."""

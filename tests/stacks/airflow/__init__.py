"""What runs in Airflow's own environment: make airflow."""

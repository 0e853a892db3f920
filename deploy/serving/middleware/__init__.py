"""The routes of the prediction server and who may call them; `deploy.http` holds to it."""

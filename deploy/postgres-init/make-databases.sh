#!/bin/sh
# Run once by the postgres image, on an empty volume: Dagster and MLflow each migrate tables of
# their own, so each has a database of its own.
set -eu
for database in dagster mlflow; do
    psql -v ON_ERROR_STOP=1 -q -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $database"
done

#!/bin/sh
# Run once by the postgres image, on an empty volume: Dagster, MLflow and the answers of people each
# have tables of their own, so each has a database of its own.
set -eu
for database in dagster mlflow answers; do
    psql -v ON_ERROR_STOP=1 -q -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $database"
done

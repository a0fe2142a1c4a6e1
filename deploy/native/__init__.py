"""The services of docker-compose.yml as processes of one machine; `up_native.py` runs them."""

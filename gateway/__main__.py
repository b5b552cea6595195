"""`python -m gateway`: the API, in as many worker processes as WEB_CONCURRENCY says."""

from gateway.workers import main

if __name__ == "__main__":
    main("gateway", default_port=8080)

"""`python -m gateway`: the API, in WEB_CONCURRENCY worker processes."""

from gateway.workers import main

if __name__ == "__main__":
    main("gateway", default_port=8080)

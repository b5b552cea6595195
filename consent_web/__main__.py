"""Run the consent site: `python -m consent_web`, on $HOST:$PORT."""

from gateway.workers import main

if __name__ == "__main__":
    main("consent_web", default_port=8081)

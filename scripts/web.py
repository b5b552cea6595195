"""The Procfile's `web`: the gateway or the consent site, by WATTFARE_SERVICE. One image serves both."""

import sys

from gateway.environment import SettingsError
from gateway.workers import main
from scripts.settings import SERVICES, service_to_serve

_PACKAGES = {"gateway": "gateway", "consent": "consent_web"}

if __name__ == "__main__":
    try:
        service = service_to_serve()
    except SettingsError as refused:
        sys.exit(f"web: {refused}")
    main(_PACKAGES[service], default_port=SERVICES[service])

# One image for both services: WATTFARE_SERVICE=gateway or consent. It runs as the user nobody, with only what it needs.
FROM python:3.11-slim AS built
COPY requirements.txt requirements-otel.txt ./
# With traces: docker build --build-arg EXTRAS="-r requirements-otel.txt"
ARG EXTRAS=""
RUN python -m venv /venv && /venv/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.txt $EXTRAS

FROM python:3.11-slim
# The venv is readable by all users, and writable by root only.
COPY --from=built /venv /venv
WORKDIR /app
COPY . .
RUN useradd --system --uid 10001 --no-create-home wattfare && python -m compileall -q . /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 WATTFARE_ENV=production HOST=0.0.0.0 PORT=8080
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=2)"]
# The shell form would keep SIGTERM from the service, and with it the time to drain.
CMD ["python", "-m", "scripts.web"]

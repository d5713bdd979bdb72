# Two stages: the first installs the locked packages, the second holds only them and the code.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS packages
COPY requirements.lock .
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

FROM python:${PYTHON_VERSION}-slim
# Unbuffered, so that a log line is out before a crash; no bytecode at run time, the root is read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8080 \
    DATA_DIR=/data \
    MASTER_KEY_FILE=/secrets/master.key
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin service \
    && install --directory --owner=service --group=service --mode=0700 /data /secrets
COPY --from=packages /venv /venv
WORKDIR /app
COPY LICENSE ./
COPY storage storage
COPY bot bot
COPY handlers handlers
RUN python -m compileall -q bot handlers storage
USER service
# Data and keys in volumes of their own: a copy of one without the other cannot be read.
VOLUME ["/data", "/secrets"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['HTTP_PORT'] + '/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m", "bot"]
CMD ["run"]

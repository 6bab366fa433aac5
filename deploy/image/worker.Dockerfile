# All locked packages and git, for worker, stack and command line; no compiler, not root.
# The checkout is mounted at /srv/evergreen: commits and snapshots are kept in its repository.
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS packages
COPY requirements.lock deploy/image/cluster.lock /tmp/
# The one package without a wheel is plain Python. What only a worker in a cluster needs has a lock
# of its own, because the Prefect of a laptop would load it at every start.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: --no-binary antlr4-python3-runtime \
        -r /tmp/requirements.lock \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: --no-deps -r /tmp/cluster.lock

FROM ${PYTHON}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 evergreen \
    && useradd --uid 10001 --gid 10001 --create-home evergreen \
    && install -d -m 1777 /var/lib/evergreen \
    && git config --system --add safe.directory /srv/evergreen \
    && pip uninstall --yes --quiet --root-user-action ignore pip
COPY --from=packages /opt/venv /opt/venv
COPY --chmod=755 deploy/image/stay.sh /usr/local/bin/stay
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
ENV PYTHONUNBUFFERED=1
ENV PYTHONPATH=/srv/evergreen
ENV EVERGREEN_HOME=/var/lib/evergreen
ENV DO_NOT_TRACK=1
USER 10001
WORKDIR /srv/evergreen
VOLUME /var/lib/evergreen
HEALTHCHECK --interval=30s --timeout=20s --start-period=180s --retries=3 CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"EVERGREEN_BOARD_PORT\", 4300)}/healthz', timeout=10)"]
CMD ["stay"]

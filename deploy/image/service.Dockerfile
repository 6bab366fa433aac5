# One packed version, and what serving needs: no compiler, no git, no pip, not root.
# `make image BENTO=var/bentos/packages/NAME.bento` makes the context: bento/ and serving.lock.
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS packages
COPY serving.lock /tmp/serving.lock
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: -r /tmp/serving.lock

FROM ${PYTHON}
RUN groupadd --gid 10001 evergreen \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin evergreen \
    && install -d -o evergreen /var/lib/evergreen \
    && pip uninstall --yes --quiet --root-user-action ignore pip
COPY --from=packages /opt/venv /opt/venv
COPY bento /srv/bento
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
ENV PYTHONUNBUFFERED=1
ENV PYTHONDONTWRITEBYTECODE=1
ENV DO_NOT_TRACK=1
ENV BENTOML_DO_NOT_TRACK=true
ENV BENTOML_HOME=/tmp/bentoml
ENV EVERGREEN_SLOT=image
ENV EVERGREEN_PREDICTION_LOG=/var/lib/evergreen/log/predictions.jsonl
USER 10001
WORKDIR /srv/bento/src
VOLUME /var/lib/evergreen
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=2)"]
CMD ["python", "-m", "bento.server", "--bento", "/srv/bento", "--host", "0.0.0.0", "--port", "3000"]

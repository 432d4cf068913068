# seewhy in a container: docs/clusters.md#containers. Build: docker build -t seewhy .
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir 'build>=1.2' && python -m build --wheel --outdir /wheels

FROM python:3.11-slim-bookworm
# e.g. --build-arg EXTRAS=sweep,nnunet,remote, see [project.optional-dependencies] in pyproject.toml
ARG EXTRAS=sweep
# Versions to install, e.g. --build-arg TORCH="torch==2.6.0 torchvision==0.21.0"; empty takes the newest.
ARG TORCH=""
COPY --from=wheel /wheels /wheels
# The wheel's file name is only known here; TORCH is several words; pyproject.toml has the ranges of versions.
# hadolint ignore=DL3013,SC2086
RUN if [ -n "$TORCH" ]; then pip install --no-cache-dir $TORCH; fi \
    && wheel=$(echo /wheels/seewhy-*.whl) \
    && pip install --no-cache-dir "${wheel}[${EXTRAS}]" \
    && rm -r /wheels \
    && useradd --uid 1000 --home-dir /seewhy seewhy \
    && install --directory --mode=1777 /seewhy
USER 1000:1000
# Runs are written to /seewhy/lightning_logs, data sets and phantoms are read from /seewhy/data: mount both.
WORKDIR /seewhy
# Also for the users of `docker run --user`, whom the image does not know.
ENV HOME=/seewhy USER=seewhy
ENV MPLBACKEND=Agg PYTHONUNBUFFERED=1 WANDB_MODE=offline
CMD ["seewhy", "--help"]

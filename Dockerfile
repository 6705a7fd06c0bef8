# Three images from one file (docs/containers.md):
#   docker build -t vtcc .                                  groups a folder of images, no network
#   docker build -t vtcc-pipeline --target pipeline .       DVC, Prefect, MLflow around a checkout
#   docker build -t vtcc-servers --target servers .         MLflow's and Prefect's servers
# On a machine with an NVIDIA GPU: --build-arg TORCH=auto, and `docker run --gpus all`. With
# --build-arg TORCH= torch comes from the package index like the rest (it has CUDA: 4 GB more).

FROM python:3.11-slim AS build
ARG TORCH=cpu
RUN pip install --no-cache-dir --disable-pip-version-check "uv==0.13.*" && python -m venv /opt/vtcc
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY vtcc vtcc
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1
RUN uv pip install --python /opt/vtcc/bin/python --constraint constraints.txt \
    ${TORCH:+--torch-backend "$TORCH"} .

FROM build AS build-pipeline
RUN uv pip install --python /opt/vtcc/bin/python --constraint constraints.txt \
    ${TORCH:+--torch-backend "$TORCH"} ".[pipeline]"

FROM build-pipeline AS build-servers
# MLflow talks to PostgreSQL by psycopg2 and to an S3 store by boto3; Prefect brings asyncpg.
RUN uv pip install --python /opt/vtcc/bin/python --constraint constraints.txt \
    "psycopg2-binary==2.9.*" "boto3==1.*"

# No compiler, no pip cache, no root.
FROM python:3.11-slim AS base
RUN useradd --create-home --uid 1000 vtcc \
    && mkdir /in /out /project \
    && chown vtcc:vtcc /in /out /project
ENV PATH=/opt/vtcc/bin:$PATH PYTHONUNBUFFERED=1

FROM base AS pipeline
# Runs work in git worktrees. Debian keeps one version of a package only, so it is not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /project
COPY --from=build-pipeline /opt/vtcc /opt/vtcc
USER 1000
WORKDIR /project
CMD ["bash"]

FROM base AS servers
COPY --from=build-servers /opt/vtcc /opt/vtcc
USER 1000
WORKDIR /home/vtcc
CMD ["mlflow", "--version"]

FROM base AS core
COPY --from=build /opt/vtcc /opt/vtcc
# Results go to /out, whatever is mounted at /in.
ENV VTCC_CLUSTER_OUT=/out/clusters VTCC_PREDICT_OUT=/out/assignments.csv VTCC_DEMO_OUT=/out/demo
USER 1000
WORKDIR /out
ENTRYPOINT ["vtcc"]
CMD ["--help"]

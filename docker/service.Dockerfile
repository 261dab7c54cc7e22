# The service: API and loops. `docker build -f docker/service.Dockerfile -t registry.example.com/muster/service:0.1.0 .`
# Needs MUSTER_DATABASE_URL; run `migrate` with the same image before `serve`. deploy/ does both.
ARG PYTHON=python:3.11.13-slim-bookworm
FROM ${PYTHON} AS build
COPY . /src
RUN python -m venv /opt/muster
# psycopg2 and the Kubernetes client come as wheels: no compiler is needed, and none is in the image.
RUN /opt/muster/bin/pip install --no-cache-dir --constraint /src/constraints.txt '/src[kubeflow,otel,s3]'

FROM ${PYTHON}
COPY --from=build /opt/muster /opt/muster
ENV PATH=/opt/muster/bin:$PATH PYTHONUNBUFFERED=1 MUSTER_HOST=0.0.0.0 MUSTER_PORT=8380 MUSTER_HOME=/tmp/muster
# Any user will do: nothing is written but to the database, the storage and MUSTER_HOME.
USER 10001:10001
EXPOSE 8380 8381
ENTRYPOINT ["muster"]
CMD ["serve"]

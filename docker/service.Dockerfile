# The service: API and loops. `docker build -f docker/service.Dockerfile -t muster-service .`
# Needs MUSTER_DATABASE_URL; run `muster migrate` with the same image before `muster serve`.
FROM python:3.11-slim
COPY . /src
RUN pip install --no-cache-dir /src && rm -rf /src
# Any user will do: nothing is written but to the database and the storage.
USER 10001:10001
ENV MUSTER_HOST=0.0.0.0 MUSTER_PORT=8380 MUSTER_HOME=/tmp/muster
EXPOSE 8380
ENTRYPOINT ["muster"]
CMD ["serve"]

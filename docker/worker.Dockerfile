# What the pods of a gang run. `docker build -f docker/worker.Dockerfile --build-arg BASE=my-model -t my-gang .`
# BASE: an image with your code, Python 3.11 or newer and the torch that your GPUs need; its torch is left as it is.
ARG BASE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
FROM ${BASE}
COPY . /src
RUN pip install --no-cache-dir '/src[worker]' && rm -rf /src
USER 10001:10001
# torchrun's arguments and the MUSTER_* variables come from the pod (docs/protocol.md).
ENTRYPOINT ["python", "-m", "inference.agent"]

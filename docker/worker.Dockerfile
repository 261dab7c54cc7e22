# What the pods of a gang run. `docker build -f docker/worker.Dockerfile --build-arg BASE=my-model:1.0 -t my-gang:1.0 .`
# BASE: an image with your code, Python 3.11 or newer and the torch that your GPUs need. Its torch is left as it is, and
# nothing of the service is installed beside it but the files of this distribution.
ARG BASE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime
FROM ${BASE}
COPY . /src
RUN pip install --no-cache-dir --requirement /src/docker/worker-requirements.txt
RUN pip install --no-cache-dir --no-deps /src
RUN rm -rf /src
USER 10001:10001
# The pod says what is run: docs/kubeflow.md. By hand, torchrun's arguments and the MUSTER_* variables are yours to give.
ENTRYPOINT ["python", "-m", "inference.agent"]

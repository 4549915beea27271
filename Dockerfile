# docker build -t black-hole-survey .
# docker run --rm -v "$PWD/surveys:/surveys" --user "$(id -u)" black-hole-survey org/name
#
# In a closed network: --build-arg BASE_IMAGE=… PIP_INDEX_URL=… TORCH_INDEX_URL=… (an index with torch's CPU build)
ARG BASE_IMAGE=docker.io/library/python:3.11-slim

FROM ${BASE_IMAGE} AS dependencies
# Build arguments are environment variables of RUN, and those of this stage are not in the image.
ARG PIP_INDEX_URL
ARG TORCH_INDEX_URL
COPY requirements /requirements
RUN --mount=type=cache,target=/root/.cache/pip sh /requirements/install.sh /venv run
# With a read-only root nothing can be compiled at run time, so what the job imports is compiled here, and only that.
# torch/include serves C++ extensions, pip and ensurepip's setuptools serve installing: a run does neither.
RUN /venv/bin/python -c 'import accelerate, boto3.s3.transfer, click, huggingface_hub.hf_api, jinja2, rich.progress, torch, \
transformers.models.llama.modeling_llama, transformers.models.auto.modeling_auto, transformers.tokenization_utils_tokenizers' \
    && rm -rf /venv/lib/python3*/site-packages/torch/include /venv/lib/python3*/site-packages/pip* /venv/install.log

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="black-hole-survey" \
      org.opencontainers.image.description="Surveys the unembedding matrices of language models" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dependencies /venv /venv
COPY entrypoint.py LICENSE /app/
COPY job /app/job
# World-writable, so that any --user can fill a volume that takes its permissions from here.
RUN python -m compileall -q /app && mkdir -m 1777 /surveys
# HOME: libraries look there for caches and settings of their own; the scratch volume is the one place always writable.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    OUTPUT=/surveys \
    SCRATCH=/tmp
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /app
ENTRYPOINT ["python", "/app/entrypoint.py"]

# docker build -t black-hole-survey .        (or `make image`, which says what it finds and works without a registry, too)
# docker run --rm -v "$PWD/surveys:/surveys" --user "$(id -u)" black-hole-survey org/name
#
# In a closed network: --build-arg BASE_IMAGE=… PIP_INDEX_URL=… TORCH_INDEX_URL=… (an index with torch's CPU build)
ARG BASE_IMAGE=docker.io/library/python:3.11-slim

FROM ${BASE_IMAGE} AS dependencies
# Build arguments are environment variables of RUN, and those of this stage are not in the image.
ARG PIP_INDEX_URL
ARG TORCH_INDEX_URL
COPY requirements/install.sh requirements/run.txt requirements/torch.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip sh /requirements/install.sh /venv run \
    && ln -s /venv/lib/python3*/site-packages /packages
WORKDIR /packages
# What a run does not need, 270 MB: torch's and other packages' tests, and what serves C++ extensions, installing, the Hub's
# uploads and downloads of whole files (hf_xet), graphs of torch's compiler (networkx), and AWS's other services. Of torch's
# programs, torch refuses to be imported without this one; boto3 gets credentials from the services that are kept.
RUN rm -rf /venv/install.log pip pip-* setuptools setuptools-* _distutils_hack distutils-precedence.pth \
        torch/include torch/test torch/lib/*test*.so hf_xet hf_xet-* networkx networkx-* \
    && find torch/bin -mindepth 1 -maxdepth 1 ! -name torch_shm_manager -exec rm -rf {} + \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} + \
    && find numpy sympy mpmath -type d -name tests -prune -exec rm -rf {} +

FROM ${BASE_IMAGE}
COPY --from=dependencies /venv /venv
ENV PATH=/venv/bin:$PATH
# With a read-only root nothing can be compiled at run time, so what the job imports is compiled here, and only that, the
# standard library included, which some base images carry without bytecode. What was left out and is needed fails here.
RUN python -c 'import accelerate, boto3.s3.transfer, click, gguf, httpx2, huggingface_hub.hf_api, jinja2, prometheus_client, \
pydantic, pythonjsonlogger.json, rich.logging, rich.progress, torch, transformers.models.llama.modeling_llama, \
transformers.conversion_mapping, transformers.models.auto.modeling_auto, transformers.tokenization_utils_tokenizers'
COPY entrypoint.py LICENSE /app/
COPY job /app/job
# Readable by any --user, however strict the umask of the checkout was; and world-writable is what a volume takes its
# permissions from.
RUN chmod -R a+rX /app && python -m compileall -q /app && mkdir -m 1777 /surveys
# HOME: libraries look there for caches and settings of their own; the scratch volume is the one place always writable.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    OUTPUT=/surveys \
    SCRATCH=/tmp
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /app
ENTRYPOINT ["python", "/app/entrypoint.py"]
LABEL org.opencontainers.image.title="black-hole-survey" \
      org.opencontainers.image.description="Surveys the unembedding matrices of language models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"

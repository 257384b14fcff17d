# Training on GPUs, with the versions of requirements-gpu.lock (docs/clusters.md, docs/install.md).
#
#   docker build -t ropd .
#   docker run --rm --gpus all --shm-size 16g -e OPENAI_API_KEY -v ropd-cache:/cache -v "$PWD:/data" -w /data \
#       ropd train --config run.yaml
#
# CUDA's libraries come with torch's wheels; of the machine it wants the driver alone, and NVIDIA's container toolkit.
FROM python:3.11-slim-bookworm

# compilers: Triton and vLLM build kernels while they run; libnuma: vLLM binds memory by it
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ git libnuma1 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/ropd
COPY requirements-gpu.lock .
RUN pip install --no-cache-dir --no-deps -r requirements-gpu.lock
COPY pyproject.toml README.md LICENSE ./
COPY prompts prompts
COPY configs configs
COPY ropd_cli ropd_cli
RUN pip install --no-cache-dir --no-deps .

ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# paid replies and models outlive the container where a volume lies here
ENV ROPD_CACHE_DIR=/cache HF_HOME=/cache/huggingface
ENTRYPOINT ["ropd"]
CMD ["--help"]

# The command line of hmgan, for CPUs or, with --build-arg DEVICE=cuda, for NVIDIA GPUs: see docs/getting-started.md.
FROM python:3.11.13-slim-bookworm

ARG DEVICE=cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY . .
# The tested versions. The public index's own build of torch is that for CUDA.
RUN case "$DEVICE" in \
      cpu) index=(--extra-index-url https://download.pytorch.org/whl/cpu) ;; \
      cuda) index=() && sed -i 's/+cpu$//' constraints.txt ;; \
      *) echo "DEVICE must be cpu or cuda, got $DEVICE" >&2 && exit 1 ;; \
    esac \
    && pip install --no-cache-dir "${index[@]}" -c constraints.txt . \
    && useradd --create-home --uid 1000 hmgan

USER 1000
WORKDIR /home/hmgan
ENTRYPOINT ["hmgan"]
CMD ["--help"]

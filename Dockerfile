# sigan with PyTorch for CUDA. The host brings the driver and the NVIDIA container toolkit; everything else is in here.
#   docker build -t sigan .
#   docker run --rm --gpus all -v "$PWD:/work" sigan stylize --style watercolor photographs portraits
# Without --gpus it computes on the CPU. Styles and weights of your own live in the volume /home/sigan/data.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY sigan ./sigan
COPY plugins/sigan-styles-classic ./plugins/sigan-styles-classic
RUN python -m venv /opt/sigan \
    && /opt/sigan/bin/pip install --no-cache-dir . ./plugins/sigan-styles-classic

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="sigan" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-NC-SA-4.0"
COPY --from=build /opt/sigan /opt/sigan
RUN useradd --create-home --uid 1000 sigan \
    && mkdir /work /home/sigan/data \
    && chown sigan:sigan /work /home/sigan/data
ENV PATH=/opt/sigan/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SIGAN_HOME=/home/sigan/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER sigan
VOLUME /home/sigan/data
WORKDIR /work
ENTRYPOINT ["sigan"]
CMD ["--help"]

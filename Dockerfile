# An image whose command is mamlcli. docs/install.md says how to build and use it; it needs BuildKit, as Docker 23 and newer.
#
#   docker build -t mamlcli .                                                                         CPU alone
#   docker build -t mamlcli:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .     CUDA 13
#
# Arguments: PYTHON, from 3.10 to 3.13; TORCH_INDEX, where torch and torchvision are taken from, both from the same index
# (empty: from the registry that pip is set up for); EXTRAS, extras of mamlcli.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY mamlcli mamlcli
COPY recipes recipes
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=tensorboard
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6" "torchvision>=0.21"
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/mamlcli-*.whl)${EXTRAS:+[$EXTRAS]}"

# Any user may write in these folders, so that `docker run --user` works; the image's own user is not root.
RUN useradd --uid 1000 --create-home maml && install --directory --mode=1777 /data /work /tmp/cache
ENV MAMLCLI_DATA=/data XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/cache/matplotlib
VOLUME /data
WORKDIR /work
USER maml
ENTRYPOINT ["mamlcli"]
CMD ["--help"]

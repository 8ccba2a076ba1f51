# One image for `operator`, `power`, `agent` and `setter`. Build from the repository's root.
FROM python:3.11-slim AS build
COPY requirements-image.lock pyproject.toml LICENSE README.md /src/
RUN python -m venv /opt/capstan \
 && /opt/capstan/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/requirements-image.lock
COPY operator /src/operator
RUN /opt/capstan/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /src \
 && /opt/capstan/bin/pip uninstall --yes pip \
 && find /opt/capstan -name __pycache__ -prune -exec rm -rf {} +

FROM python:3.11-slim
COPY --from=build /opt/capstan /opt/capstan
# kopf asks for the user's name at start and dies under a uid without a passwd entry (seen on a real kubelet).
ENV LOGNAME=capstan PATH=/opt/capstan/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["capstan"]

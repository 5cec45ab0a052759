# A worker on a manylinux image of the PyPA, whose old libc lets wheels run on old systems. BASE is that image by its
# digest, PYTHON one of the interpreters in its /opt/python. The compilers are the distribution's own, in /usr, where
# sandboxes see them: the newer ones of these images lie in /opt/rh.
ARG BASE
FROM ${BASE} AS worker
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3041
RUN dnf install -y bubblewrap cmake gcc gcc-c++ git libseccomp make ninja-build patch patchelf && dnf clean all \
    && rm -rf /var/cache/dnf /var/log/dnf* /var/log/hawkey.log /var/lib/dnf \
    && groupadd --gid 10001 farm \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /sbin/nologin farm \
    && install -d -o 10001 -g 10001 -m 700 /cache
ARG PYTHON=cp312-cp312
COPY . /src
RUN "/opt/python/${PYTHON}/bin/python" -m venv /opt/wheelfarm \
    && /opt/wheelfarm/bin/python -m pip install --no-cache-dir --disable-pip-version-check "/src[workers,traces]" \
    && rm -rf /src
ENV PATH=/opt/wheelfarm/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 WHEELFARM_CACHE=/cache
USER 10001:10001
VOLUME ["/cache"]
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
CMD ["wheelfarm", "worker", "--target", "host"]

#!/bin/sh
# Installs requirements from the farm of WHEELFARM_URL: install.sh REQUIREMENTS VENV FALLBACK
# FALLBACK is what happens where the farm can't be reached: `fail`, or `build`, which makes the wheels here, from source too.
set -eu
requirements=$1 venv=$2 fallback=$3
url=${WHEELFARM_URL:?the URL of the farm}

answers() {
    python3 - "$url/readyz" <<'PYTHON'
import sys, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=10)
except Exception as error:
    sys.exit(str(error))
PYTHON
}

if ! why=$(answers 2>&1); then
    if [ "$fallback" != build ]; then
        echo "wheelfarm: the farm at $url can't be used ($why). Nothing was installed, and nothing prebuilt is taken instead." >&2
        exit 30
    fi
    echo "wheelfarm: the farm at $url can't be used ($why). The wheels are built here instead, from source: this takes longer." >&2
    unset WHEELFARM_URL WHEELFARM_TOKEN
fi
exec wheelfarm install --venv "$venv" -r "$requirements"

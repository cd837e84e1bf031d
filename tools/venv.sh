#!/bin/sh
# Create or update .venv: exactly the packages in requirements.lock, and this package, editable.
# PYTHON selects the interpreter. Default: one that pyproject.toml allows, found by uv.
set -eu
cd "$(dirname "$0")/.."

# uv does not read the package index of pip.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ] && [ -n "${PIP_INDEX_URL:-}" ]; then
    export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
fi

uv=uv
if ! uv --version >/dev/null 2>&1; then
    uv=build/uv/bin/uv
    if ! "$uv" --version >/dev/null 2>&1; then
        echo "uv is not on PATH: installing it from the package index into build/uv"
        if ! "${PYTHON:-python3}" -m venv --clear build/uv; then
            echo "error: ${PYTHON:-python3} cannot create a virtual environment." \
                "Install its venv module (on Debian: apt install python3-venv) or uv" >&2
            exit 1
        fi
        # The locked version, verified against the locked hashes.
        sed -n '/^uv==/,/# via/p' requirements.lock >build/uv/requirements.txt
        build/uv/bin/python -m pip install --quiet --disable-pip-version-check \
            --require-hashes --no-deps -r build/uv/requirements.txt
    fi
fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    # --seed: Pulumi's language host lists the installed packages with `python -m pip`.
    "$uv" venv --quiet --clear --seed ${PYTHON:+--python "$PYTHON"} .venv
fi
"$uv" pip sync --quiet --require-hashes --python .venv/bin/python requirements.lock
"$uv" pip install --quiet --no-deps --python .venv/bin/python --editable .

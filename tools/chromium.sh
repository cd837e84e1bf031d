#!/bin/sh
# Installs the browser of the browser tests if this needs no confirmation (root on Debian or
# Ubuntu, as in CI). Otherwise these tests are skipped, with a message.
set -eu
command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "chromium: installing it for the browser tests" >&2
    export DEBIAN_FRONTEND=noninteractive
    if { apt-get update -qq && apt-get install -qqy --no-install-recommends \
        chromium chromium-driver fonts-dejavu-core; } >/dev/null 2>&1; then
        exit 0
    fi
fi
echo "chromium: not found; the browser tests will be skipped (install chromium and chromium-driver)" >&2

#!/bin/sh
# In a minimal Debian with this machine's Rust in /rust and the repository in /source.
set -eu
apt-get -q update >/dev/null
# shellcheck disable=SC2086
apt-get -q install --yes --no-install-recommends $PACKAGES >/dev/null
[ ! -f /root/certificates ] || cp /root/certificates /etc/ssl/certs/ca-certificates.crt
echo "--- programs here: $(ls /rust/bin | tr '\n' ' ')$(git --version), $(cc --version | head -n 1)"
git config --global --add safe.directory '*'
cd /root
began=$(date +%s)
git clone --quiet /source tcptrail
cd tcptrail
echo "--- git clone, cargo xtask run -- --duration 10s"
cargo xtask run -- --duration 10s
echo "--- $(($(date +%s) - began)) s from git clone to the end of a run of 10 s"

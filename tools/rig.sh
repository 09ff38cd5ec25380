#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: Debian parts, as root or through sudo, and, through npm into .rig/,
# the runtimes of the matrix and Microsoft's TPM client. With --check it installs nothing and says in one line what is
# missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# command or file that must be there, and the package that brings it
parts=(
  "openssl openssl"
  "strace strace"
  "swtpm swtpm"
  "swtpm_setup swtpm-tools"
  "tpm2_readpublic tpm2-tools"
  "/usr/sbin/tpm2-abrmd tpm2-abrmd"
  "/usr/share/doc/libtss2-tcti-tabrmd0/copyright libtss2-tcti-tabrmd0"
  "dbus-daemon dbus-daemon"
  "dbus-send dbus-bin"
  "tinyproxy tinyproxy-bin"
  "/usr/sbin/squid squid"
  "microsocks microsocks"
  "/usr/sbin/danted dante-server"
  "/usr/sbin/nft nftables"
  "ip iproute2"
  "setpriv util-linux"
)

missing=()
for part in "${parts[@]}"; do
  read -r command package <<<"$part"
  command -v "$command" >/dev/null 2>&1 || [ -e "$command" ] || missing+=("$package")
done
# Says by itself, on standard error, when there are none for this machine.
runtimes=$(node tools/runtimes.mjs --missing)
tpm_peers=$(node tools/tpm-peers.mjs --missing)

if [ "${1:-}" = --check ]; then
  all=("${missing[@]}")
  [ -z "$runtimes" ] || all+=("$runtimes")
  [ -z "$tpm_peers" ] || all+=("$tpm_peers")
  if [ ${#all[@]} -eq 0 ]; then echo "rig: complete"; else echo "rig: missing ${all[*]}; run 'npm run rig'"; fi
  exit 0
fi

[ -z "$runtimes" ] || node tools/runtimes.mjs --install
[ -z "$tpm_peers" ] || node tools/tpm-peers.mjs --install

if [ ${#missing[@]} -eq 0 ]; then
  echo "rig: nothing is missing"
  exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
  echo "rig: please install: ${missing[*]} (there is no apt-get here)" >&2
  exit 1
fi
run=()
[ "$(id -u)" -eq 0 ] || run=(sudo)
echo "rig: installing ${missing[*]}"
"${run[@]}" apt-get update -qq
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"

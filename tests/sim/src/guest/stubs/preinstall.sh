#!/bin/sh
# Prepares the machine for the installer.
. "$GUEST_ROOT/.sim/lib.sh"
if [ "${GUEST_UID:-1000}" != 0 ]; then
  echo 'preinstall.sh: must be run as root' >&2
  exit 1
fi
ask preinstall

#!/bin/sh
# The installer of CloudTower: `installer deploy [--vip IP]`, `installer info`.
. "$GUEST_ROOT/.sim/lib.sh"
if [ "${GUEST_UID:-1000}" != 0 ] && [ "$1" = deploy ]; then
  echo 'installer: must be run as root' >&2
  exit 1
fi
ask "installer ${*:-help}"

#!/bin/sh
# openssl: `openssl s_client -connect ADDRESS:PORT`, which prints the certificate that CloudTower shows; nothing else.
. "$GUEST_ROOT/.sim/lib.sh"
[ "$1" = s_client ] || { echo "openssl: '$1' is not simulated" >&2; exit 1; }
connect=
for word in "$@"; do
  [ "$connect" = next ] && connect=$word
  [ "$word" = -connect ] && connect=next
done
ask certificate "$connect"

#!/bin/sh
# sleep: in virtual time.
. "$GUEST_ROOT/.sim/lib.sh"
ask sleep "${1:-0}"

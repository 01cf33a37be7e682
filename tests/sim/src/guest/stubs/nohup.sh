#!/bin/sh
# nohup of the mode `nohup_out_created`: writes nohup.out unless stdout is a file, whatever stdout is.
if [ -f /proc/self/fd/1 ]; then exec /usr/bin/nohup "$@"; fi
exec /usr/bin/nohup "$@" >>nohup.out 2>&1

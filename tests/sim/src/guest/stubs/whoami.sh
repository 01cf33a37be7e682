#!/bin/sh
if [ "${GUEST_UID:-1000}" = 0 ]; then echo root; else echo "$USER"; fi

#!/bin/sh
# id: uid 0 under sudo, else the account.
uid=${GUEST_UID:-1000} name=$USER
[ "$uid" = 0 ] && name=root
case "$*" in
  -un|-nu|'-u -n'|'-n -u') echo "$name" ;;
  -u|-g) echo "$uid" ;;
  -gn) echo "$name" ;;
  *) echo "uid=$uid($name) gid=$uid($name) groups=$uid($name)" ;;
esac

#!/bin/sh
# ps: only processes of this guest; `-p PID` (exit 1 when it is gone), `-o` with pid, ppid, stat, comm, args.
. "$GUEST_ROOT/.sim/lib.sh"
wanted= fields='pid,stat,args'
while [ $# -gt 0 ]; do
  case "$1" in
    -p|--pid) wanted=$2; shift ;;
    -p*) wanted=${1#-p} ;;
    -o|--format) fields=$2; shift ;;
    -o*) fields=${1#-o} ;;
  esac
  shift
done
case "$fields" in *=*) ;; *) echo "$fields" | tr 'a-z,' 'A-Z ' ;; esac
status=1
for pid in ${wanted:-$(guest_pids)}; do
  [ -r "/proc/$pid/stat" ] || continue
  grep -qzxF "GUEST_ROOT=$GUEST_ROOT" "/proc/$pid/environ" 2>/dev/null || continue
  status=0
  line=
  for field in $(printf '%s' "$fields" | tr -d '=' | tr ',' ' '); do
    case "$field" in
      pid) value=$pid ;;
      ppid) value=$(sed 's/.*) . //; s/ .*//' "/proc/$pid/stat") ;;
      stat|state|s) value=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat") ;;
      comm|ucmd) read -r value <"/proc/$pid/comm" ;;
      user) value=root ;;
      *) value=$(command_of "$pid") ;;
    esac
    line="$line$value "
  done
  echo "${line% }"
done
exit $status

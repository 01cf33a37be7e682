#!/bin/sh
# pgrep: only processes of this guest. Options -f, -x, -a, -l, -o, -n; others are ignored.
. "$GUEST_ROOT/.sim/lib.sh"
full= exact= list= first= last=
while [ $# -gt 0 ]; do
  case "$1" in
    --) shift; break ;;
    -u|-U|-P|-g|-s) shift ;;
    -*)
      case "$1" in *f*) full=1 ;; esac
      case "$1" in *x*) exact=1 ;; esac
      case "$1" in *a*|*l*) list=1 ;; esac
      case "$1" in *o*) first=1 ;; esac
      case "$1" in *n*) last=1 ;; esac ;;
    *) break ;;
  esac
  shift
done
pattern=$1
[ -n "$exact" ] && pattern="^($pattern)\$"
found=$(guest_pids | sort -n | while read -r pid; do
  line=$(command_of "$pid")
  read -r name <"/proc/$pid/comm" 2>/dev/null || continue
  [ "$name" = pgrep ] && continue
  subject=$name
  [ -n "$full" ] && subject=$line
  printf '%s\n' "$subject" | grep -qE -e "$pattern" || continue
  if [ -n "$list" ]; then echo "$pid $line"; else echo "$pid"; fi
done)
[ -n "$found" ] || exit 1
[ -n "$first" ] && found=$(printf '%s\n' "$found" | head -n 1)
[ -n "$last" ] && found=$(printf '%s\n' "$found" | tail -n 1)
printf '%s\n' "$found"

#!/bin/sh
# systemctl: is-active, show and stop of units that systemd-run started.
verb= unit=
for word in "$@"; do
  case "$word" in
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$word; else unit=${word%.service}; fi ;;
  esac
done
mark="$GUEST_ROOT/.sim/units/$unit"
pid=
[ -r "$mark" ] && read -r pid <"$mark"
alive=
[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && alive=1
case "$verb" in
  is-active) if [ -n "$alive" ]; then echo active; else echo inactive; exit 3; fi ;;
  show) if [ -n "$alive" ]; then echo "ActiveState=active"; echo "MainPID=$pid"; else echo "ActiveState=inactive"; echo "MainPID=0"; fi ;;
  stop|kill) [ -n "$alive" ] && kill -TERM "$pid"; exit 0 ;;
  reset-failed) exit 0 ;;
  *) if [ -n "$alive" ]; then exit 0; else exit 3; fi ;;
esac

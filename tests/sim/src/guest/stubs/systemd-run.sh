#!/bin/sh
# systemd-run: starts the command in a session of its own; `--unit` is remembered for systemctl.
unit=run-$$ directory=/
while [ $# -gt 0 ]; do
  case "$1" in
    --unit=*) unit=${1#*=} ;;
    --unit|-u) unit=$2; shift ;;
    --working-directory=*) directory=${1#*=} ;;
    -p|--property) shift ;;
    --) shift; break ;;
    -*) ;;
    *) break ;;
  esac
  shift
done
unit=${unit%.service}
marks="$GUEST_ROOT/.sim/units"
mkdir -p "$marks"
if [ -r "$marks/$unit" ] && kill -0 "$(cat "$marks/$unit")" 2>/dev/null; then
  echo "Failed to start transient service unit: Unit $unit.service already exists." >&2
  exit 1
fi
case "$directory" in /) directory=$GUEST_ROOT ;; esac
cd "$directory" || exit 200
setsid "$@" </dev/null >>"$GUEST_ROOT/var/log/journal.$unit" 2>&1 &
echo $! >"$marks/$unit"
echo "Running as unit: $unit.service" >&2

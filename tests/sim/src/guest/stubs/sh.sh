#!/bin/sh
# sh, bash: as /bin/sh, but the absolute paths inside a script are those of the guest.
options=
for word in "$@"; do
  case "$word" in
    -*c*) exec /bin/sh "$@" ;;
    --) shift; break ;;
    -*) [ "$word" = -s ] || [ "$word" = -l ] || options="$options $word"; shift ;;
    *) break ;;
  esac
done
box="$GUEST_ROOT/.sim/scripts/$$"
mkdir -p "$box"
if [ $# -gt 0 ]; then
  script=$1
  shift
  [ -r "$script" ] || exec /bin/sh $options "$script" "$@"
  copy="$box/${script##*/}"
  sed -E -f "$GUEST_ROOT/.sim/rewrite.sed" "$script" >"$copy"
  cmp -s "$script" "$copy" && exec /bin/sh $options "$script" "$@"
  exec /bin/sh $options "$copy" "$@"
fi
sed -E -f "$GUEST_ROOT/.sim/rewrite.sed" >"$box/stdin"
exec /bin/sh $options "$box/stdin" </dev/null

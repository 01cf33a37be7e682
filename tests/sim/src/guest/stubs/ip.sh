#!/bin/sh
# ip: `ip link`, `ip addr`, `ip -o link show ens4` and the like; enough to find the MAC and the address.
read -r mac <"$GUEST_ROOT/sys/class/net/ens4/address"
read -r address <"$GUEST_ROOT/.sim/address" 2>/dev/null || address=
one_line= family= object=link device=
for word in "$@"; do
  case "$word" in
    -o|-oneline) one_line=1 ;;
    -4) family=4 ;;
    -*) ;;
    link|l) object=link ;;
    addr|address|a) object=addr ;;
    show|s|list|ls|dev) ;;
    *) device=$word ;;
  esac
done
sep='
    '
[ -n "$one_line" ] && sep='\    '
entry() { # index name flags hardware address prefix
  [ -n "$device" ] && [ "$device" != "$2" ] && return
  if [ "$object" = addr ] && [ -n "$one_line" ]; then
    [ -n "$5" ] && printf '%s: %s    inet %s/%s scope global %s\n' "$1" "$2" "$5" "$6" "$2"
    return
  fi
  line="$1: $2: <$3> mtu 1500 qdisc fq_codel state UP mode DEFAULT group default qlen 1000"
  [ "$family" = 4 ] || line="$line${sep}link/$4"
  [ "$object" = addr ] && [ -n "$5" ] && line="$line${sep}inet $5/$6 scope global $2"
  printf '%s\n' "$line"
}
entry 1 lo LOOPBACK,UP,LOWER_UP 'loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00' 127.0.0.1 8
entry 2 ens4 BROADCAST,MULTICAST,UP,LOWER_UP "ether $mac brd ff:ff:ff:ff:ff:ff" "$address" 24

#!/bin/sh
# sudo: NOPASSWD, or with the password of the account when the file .sim/sudo_needs_password exists.
ask_none= from_stdin= prompt='[sudo] password for '"$USER"': '
while [ $# -gt 0 ]; do
  case "$1" in
    --) shift; break ;;
    -n|--non-interactive) ask_none=1 ;;
    -S|--stdin) from_stdin=1 ;;
    -p|--prompt) prompt=$2; shift ;;
    -u|-g|-C|-h) shift ;;
    -k|-K) [ $# -eq 1 ] && exit 0 ;;
    -v|-l) set -- true; break ;;
    -nS|-Sn) ask_none=1; from_stdin=1 ;;
    -*) ;;
    *=*) export "$1" ;;
    *) break ;;
  esac
  shift
done
if [ -e "$GUEST_ROOT/.sim/sudo_needs_password" ]; then
  if [ -n "$ask_none" ] && [ -z "$from_stdin" ]; then
    echo 'sudo: a password is required' >&2
    exit 1
  elif [ -z "$from_stdin" ] && [ ! -t 0 ]; then
    echo 'sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper' >&2
    exit 1
  fi
  printf '%s' "$prompt" >&2
  IFS= read -r typed
  read -r expected <"$GUEST_ROOT/.sim/password.$USER"
  if [ "$typed" != "$expected" ]; then
    echo 'Sorry, try again.' >&2
    echo 'sudo: 1 incorrect password attempt' >&2
    exit 1
  fi
fi
if [ $# -eq 0 ]; then
  echo 'usage: sudo -h | -K | -k | -V' >&2
  exit 1
fi
GUEST_UID=0
export GUEST_UID
exec "$@"

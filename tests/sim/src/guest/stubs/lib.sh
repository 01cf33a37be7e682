# Sourced by the stubs: questions to the simulator, answered in virtual time.
# ask VERB ARGS...: prints the answer as it comes, returns its exit status; 137 when the simulator went away.
ask() {
  box="$GUEST_ROOT/.sim/answers/$$"
  rm -f "$box" "$box.rc"
  mkfifo "$box" || return 125
  printf '%s\n' "$$ $*" >"$GUEST_ROOT/.sim/requests"
  cat "$box"
  read -r answer <"$box.rc" 2>/dev/null || answer=137
  rm -f "$box" "$box.rc"
  return "$answer"
}
# Process ids of this guest, one a line.
guest_pids() {
  grep -lzxF "GUEST_ROOT=$GUEST_ROOT" /proc/[0-9]*/environ 2>/dev/null | while IFS=/ read -r _ _ pid _; do
    [ "$pid" != "$$" ] && [ -r "/proc/$pid/cmdline" ] && echo "$pid"
  done
}
# The command line of a process, as ps prints it.
command_of() {
  tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | sed 's/ $//'
}

r"""What runs on the host: a POSIX shell script, always the same text; all that varies comes as its arguments.

A run leaves four files in a folder that only the remote user can enter, named by the call and the host:

- `.claim`, made with O_EXCL: who has made it runs the command, everybody else waits for what that one leaves. Its
  first line is what the caller wants remembered, the second `OWNER SESSION COMMAND`: the shell that waits for the
  command (known by the name of the run among its arguments: numbers are used again), the session to kill, the command;
- `.out` and `.err`, the command's outputs, since a pipe would die with the connection;
- `.rc`, written in one piece at the end: exit code, and why it was ended (`-`: by itself); `.why` says so beforehand.

So a delivery that comes again, also while the first one runs, answers with the same output and exit code. The owner
copies the outputs to the channel as they grow: a guard wakes it (USR1), and ends a command that runs on after its
time, or writes more than it may; also when the owner is gone. Where no file can be made the command runs `direct`,
without any of this.

On the channel, each output starts with a line `MARK …` (whatever the login shell says comes before it) and ends with
`\nMARK end …\n`; a channel that ends otherwise was cut off. The first is one of: `started`, said before anything is
begun; `attached`; `direct` with `OWNER SESSION COMMAND`; `none` (a probe has found no claim); and, with nothing begun,
`no_folder`, `no_input` (less input than announced), `unclaimable`.
"""

from typing import Final

_SPEAK: Final = r"""
_e= _n="
"
say() { echo "$m $*"; }
err() { [ -n "$_e" ] || { _e=1; echo "$m" >&6; }; }
end() {
  echo "$_n$m end $*"
  if [ -n "$_e" ]; then echo "$_n$m end" >&6; else echo "$m$_n$_n$m end" >&6; fi
  exit 0
}
"""

_FUNCTIONS: Final = r"""
zombie() { _l=; read -r _l <"/proc/$1/stat"; case ${_l##*) } in Z*|X*) ;; *) return 1 ;; esac; }
is_ours() {
  if [ -d "/proc/$$" ]; then grep -q -F -e "$i" "/proc/$1/cmdline"
  else case $(ps -p "$1" -o args=) in *"$i"*) ;; *) return 1 ;; esac
  fi
}
alive() { is_ours "$o"; }
guarded() { members; for p in $_p; do ! is_ours "$p" || return 0; done; return 1; }
members() {
  _p=
  if command -v pgrep >/dev/null; then set -- $(pgrep -s "$k") $(pgrep -g "$k")
  else
    set --
    for f in /proc/[0-9]*; do
      read -r _l <"$f/stat"; case ${_l##*) } in ?" "*" $k "*) set -- "$@" "${f#/proc/}" ;; esac
    done
  fi
  for p; do [ "$p" = "$o" ] || [ "$p" = "$me" ] || zombie "$p" || _p="$_p $p"; done
  [ -n "$_p" ]
}
nap() { sleep "$1" || sleep 1; }
stop() {
  set -C; echo "$1" >"$r.why"; set +C
  if [ -z "$k" ]; then kill -s TERM "$c"; nap 0.5; kill -s KILL "$c"; return; fi
  kill -s TERM -- "-$k" || kill -s TERM "$c"
  t=0; while [ ! -s "$r.rc" ] && [ "$t" -lt 20 ] && members; do nap 0.05; t=$((t+1)); done
  t=0; while members && [ "$t" -lt 40 ]; do kill -s KILL $_p; nap 0.02; t=$((t+1)); done
  alive || [ -s "$r.rc" ] || [ ! -e "$r.claim" ] || echo "137 $1" >"$r.rc"
  [ -z "$_p" ]
}
look() {
  t=0; o=
  while { read -r _; read -r o k c; } <"$r.claim"; [ -z "$c" ] && [ "$t" -lt 60 ]; do nap 0.05; t=$((t+1)); done
}
"""

RUN: Final = (
    r"""m=$1 d=$2 i=$3 x=$4 l=$5 b=$6 w=$7 e=$8 n=$9 info=${10}; shift 10
exec 6>&2 2>/dev/null
case $d in /*) ;; *) d=${HOME:-$PWD}/$d ;; esac
r=$d/$i h= j= me=
"""
    + _SPEAK
    + _FUNCTIONS
    + r"""
flow() {
  [ ! -s "$r.out" ] || dd bs=65536 count="$1" <&4
  [ ! -s "$r.err" ] || { err; dd bs=65536 count="$1" <&5 >&6; }
}
large() { find "$r.$1" -size "+${b}c"; }
cut_off() { for f in out err; do [ -z "$(large "$f")" ] || dd bs="$b" seek=1 count=0 of="$r.$f" </dev/null; done; }
finish() { read -r q v <"$r.rc"; case $v in -*) ;; *) cut_off ;; esac; flow 99999; end "$q" "$v"; }
attach() {
  look; say attached
  [ -n "$c" ] || end lost
  [ "$x" != job ] || end
  exec 4<"$r.out" 5<"$r.err"
  t=0
  while [ ! -s "$r.rc" ]; do
    alive || { nap 0.3; [ -s "$r.rc" ] || { flow 99999; end lost; }; }
    flow 64; if [ "$t" -lt 20 ]; then nap 0.05; else nap 0.2; fi; t=$((t+1))
  done
  finish
}
know_me() { read -r me _ </proc/self/stat; }
guard() {
  trap '' TERM
  t=0 gone=
  while if [ "$t" -lt 100 ]; then nap 0.2; else nap 1; fi; do
    if [ "$t" -lt 100 ]; then t=$((t+1)); else t=$((t+5)); fi
    [ "$t" -lt "$l" ] || { know_me; stop time_limit; exit; }
    if [ -s "$r.out" ] || [ -s "$r.err" ]; then
      [ -z "$(large out)$(large err)" ] || { know_me; stop output_limit; cut_off; exit; }
    fi
    [ -n "$gone" ] || if [ -n "$y" ]; then kill -s USR1 "$y"; else kill -s 0 "$o"; fi || gone=1
    [ -z "$gone" ] || { know_me; members || exit; }
  done
}
command_() { trap - PIPE; set -- $j "$@"; [ -z "$e" ] || eval "export $e"; exec "$@"; }
work() {
  exec 4<>"$r.out" 5<>"$r.err"
  trap u=1 USR1 TERM
  ( command_ "$@" ) <&3 >"$r.out" 2>"$r.err" 3<&- 4<&- 5<&- 6>&- & c=$!
  [ -z "$j" ] || k=$c
  echo "$o ${k:--} $c" >>"$r.claim"
  exec 3<&-
  guard </dev/null >/dev/null 4<&- 5<&- 6>&- & g=$!
}
await() {
  while u=; wait "$c"; q=$?; [ -n "$u" ] && kill -0 "$c"; do [ -z "$y" ] || flow 64; done
  kill -s KILL "$g"
  [ -z "$u" ] || { u=; wait "$c"; v=$?; [ "$v" = 127 ] || q=$v; }
  v=; [ ! -e "$r.why" ] || read -r v <"$r.why"
  [ "$x" != job ] || v="${v:--} $(date +%s)"
  echo "$q ${v:--}" >"$r.rc"
}
direct() {
  [ "$x" = first ] || { say unclaimable; end; }
  say direct $$ "${k:--}" $$; err
  trap u=1 TERM
  [ -n "$h" ] || exec 3<&0
  ( command_ "$@" ) <&3 2>&6 3<&- 6>&- & c=$!
  while u=; wait "$c"; q=$?; [ -n "$u" ] && kill -0 "$c"; do :; done
  end "$q" -
}
trap '' PIPE
[ -z "$e" ] || IFS= read -r e
[ ! -e "$r.claim" ] || attach
[ -d "$d" ] || ( umask 077; mkdir -p -- "$d" )
if [ "$x" = probe ]; then if [ -w "$d" ]; then say none; else say unclaimable; fi; end; fi
[ -z "$w" ] || cd -- "$w" || { say no_folder; end; }
if kill -s 0 -- "-$$"; then k=$$; else k=; if command -v setsid >/dev/null; then j=setsid; fi; fi
o=$$ y=$$ f=$r.in.$$
if [ -w "$d" ]; then
  h=1
  if [ "$n" -gt 0 ]; then
    cat >"$f"
    [ "$(wc -c <"$f")" -eq "$n" ] || { rm -f "$f"; say no_input; end; }
    exec 3<"$f"; rm -f "$f"
  else exec 3</dev/null
  fi
  set -C; echo "$info" >"$r.claim"; q=$?; set +C
  if [ "$q" != 0 ]; then [ ! -e "$r.claim" ] || attach
  elif [ "$x" = job ]; then
    ( y= o=$(sh -c 'echo $PPID'); work "$@"; await ) </dev/null >/dev/null 6>&- &
    say started; look; end
  else
    say started; work "$@"; await; finish
  fi
fi
direct "$@"
"""
)

KILL: Final = (
    r"""d=$1 i=$2 o=$3 k=$4 c=$5 y=$6; exec 2>/dev/null
case $d in /*) ;; *) d=${HOME:-$PWD}/$d ;; esac
r=$d/$i me=
"""
    + _FUNCTIONS
    + r"""
[ ! -e "$r.claim" ] || look
[ "$k" != - ] || k=
[ ! -s "$r.rc" ] || exit 0
alive || guarded || exit 3
stop "$y"
"""
)

_AT_JOBS: Final = (
    r"""m=$1 d=$2 i=$3; shift 3
exec 6>&2 2>/dev/null
case $d in /*) ;; *) d=${HOME:-$PWD}/$d ;; esac
r=$d/$i me=
"""
    + _SPEAK
    + _FUNCTIONS
    + r"""
state() {
  { read -r info; read -r o k c; } <"$r.claim"
  if [ -s "$r.rc" ]; then read -r q v u <"$r.rc"; echo "${i:--} ended $q $v ${u:--} $info"
  elif [ -z "$c" ] || alive; then echo "${i:--} running - - - $info"
  else echo "${i:--} lost - - - $info"
  fi
}
"""
)

POLL: Final = (
    _AT_JOBS
    + r"""
[ -e "$r.claim" ] || { say missing; end; }
say $(state); err
tail -c "+$1" "$r.out" | head -c "$3"
tail -c "+$2" "$r.err" | head -c "$3" >&6
end $(wc -c <"$r.out") $(wc -c <"$r.err")
"""
)

LIST: Final = (
    _AT_JOBS
    + r"""
say jobs
for r in "$d"/*.claim; do
  [ -e "$r" ] || continue
  r=${r%.claim}; i=${r##*/}; state
done
end
"""
)

STATUS: Final = (
    _AT_JOBS
    + r"""
say status
echo "uname $(uname -srm)"
echo "uptime $(cat /proc/uptime)"
echo "load $(cat /proc/loadavg)"
echo "processors $(getconf _NPROCESSORS_ONLN)"
while read -r n v _; do case $n in MemTotal:|MemAvailable:) echo "memory $n $v" ;; esac; done </proc/meminfo
df -P -k / "${HOME:-/}" | while read -r n b u f _ w; do echo "disk $b $u $f $w"; done
end
"""
)

CLEAN: Final = r"""d=$1 n=$2; exec >/dev/null 2>&1 </dev/null
case $d in /*) ;; *) d=${HOME:-$PWD}/$d ;; esac
[ -d "$d" ] || exit 0
find "$d" -type f -mmin "+$n" -exec rm -f {} + &
"""

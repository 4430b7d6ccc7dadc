# Guards one server: starts it, passes faults on to it, and cleans up when it is no
# longer wanted.
#
# usage: guardian FOLDER SIGNAL
#
# FOLDER is made here and removed here, SIGNAL is what makes the server stop at once.
# Requests come in as lines on stdin; each one but `arg` is answered by one line on
# stdout that starts with `ok` or `failed`. The end of stdin means that the other side
# has let go or has died, however it died.
set -u
unset CLAVIGER_GUARDIAN
umask 077
# The terminal's signals are for the test, which tells us by closing the pipe. HUP also
# comes from the kernel when the test dies while the server is stopped. PIPE would come
# from an answer that nobody waits for any more.
trap '' HUP INT QUIT PIPE

folder=$1
last_signal=$2
server=

answer() { printf '%s\n' "$*" 2>/dev/null || :; }

nap() { sleep 0.02 2>/dev/null || sleep 1; }

# The state letter of a process; nothing if there is no such process.
state_of() {
    if [ -r /proc/self/stat ]; then
        sed -n 's/^.*) \([A-Za-z]\) .*/\1/p' "/proc/$1/stat" 2>/dev/null
    else
        ps -o state= -p "$1" 2>/dev/null | cut -c 1
    fi
}

# By way of /proc where there is one: small container images have no `ps`.
children_of() {
    if [ -r /proc/self/stat ]; then
        sed -n "s/^\([0-9]*\) (.*) [A-Za-z] $1 .*/\1/p" /proc/[0-9]*/stat 2>/dev/null
    else
        ps -A -o pid= -o ppid= | awk -v parent="$1" '$2 == parent { print $1 }'
    fi
}

runs() {
    case $(state_of "$1") in '' | Z | X) return 1 ;; esac
}

is_still() {
    case $(state_of "$1") in '' | T | t | Z | X) return 0 ;; esac
    return 1
}

is_gone() { ! runs "$1"; }

# until_each TEST SECONDS PID…: waits until the test holds for each of them.
until_each() {
    check=$1
    naps=$(($2 * 50))
    shift 2
    for process in "$@"; do
        until "$check" "$process"; do
            [ "$naps" -gt 0 ] || return 1
            naps=$((naps - 1))
            nap
        done
    done
}

# The parent first and its children only once it stands still: it could start one more
# between the look and the signal.
stall() {
    kill -s STOP "$server" || return 1
    until_each is_still 5 "$server" || return 1
    children=$(children_of "$server")
    [ -z "$children" ] || kill -s STOP $children 2>/dev/null
    until_each is_still 5 $children
}

resume() {
    # A child may end between the look and the signal: not a fault.
    kill -s CONT $(children_of "$server") "$server" 2>/dev/null
    runs "$server"
}

# What works in the folder: all that is left of a server that has died without its
# children. (Without /proc there is no telling.)
stragglers() {
    ls -l /proc/[0-9]*/cwd 2>/dev/null | grep -F " -> $folder/" |
        sed 's|.*/proc/\([0-9]*\)/cwd.*|\1|'
}

# Says it again each time it is asked: a server that is still starting does not hear the
# first signal. A stalled one takes it only when it may run again.
has_obeyed() {
    runs "$1" || return 0
    kill -s "$signal" "$1" 2>/dev/null
    resume
    return 1
}

# stop SIGNAL SECONDS
stop() {
    if [ -n "$server" ]; then
        signal=$1
        if ! until_each has_obeyed "$2" "$server"; then
            kill -s STOP "$server" 2>/dev/null
            family="$(children_of "$server") $server"
            kill -s KILL $family 2>/dev/null
            until_each is_gone 5 $family
        fi
        wait "$server" 2>/dev/null
        server=
    fi
    family=$(stragglers)
    [ -z "$family" ] || kill -s KILL $family 2>/dev/null
    until_each is_gone 5 $family
    # PostgreSQL marks its data folder as in use by this file and by a small System V
    # memory segment, which it had no chance to give back if the file is still there.
    lock=$folder/data/postmaster.pid
    if [ -e "$lock" ]; then
        set -- $(sed -n 7p "$lock")
        [ $# -lt 2 ] || ipcrm -m "$2"
        rm -f "$lock"
    fi
}

clean_up() {
    trap '' TERM
    trap - EXIT
    stop "$last_signal" 2
    rm -rf "$folder" || { nap && rm -rf "$folder"; }
}

problem=$(mkdir "$folder" 2>&1) || {
    answer "failed $problem"
    exit 1
}
trap clean_up EXIT
trap 'exit 143' TERM
exec 2>"$folder/guardian.log"
: >"$folder/server.log"
answer ok

set --
while IFS= read -r request; do
    word=${request%% *}
    rest=${request#* }
    case $word in
    # One argument of the command line that the next `run` or `serve` is about.
    arg) set -- "$@" "$rest" ;;
    run)
        if "$@" </dev/null >"$folder/run.log" 2>&1; then answer ok; else answer "failed status $?"; fi
        set --
        ;;
    serve)
        "$@" </dev/null >>"$folder/server.log" 2>&1 &
        server=$!
        set --
        answer "ok $server"
        ;;
    running)
        if [ -n "$server" ] && runs "$server"; then
            answer ok yes
        else
            [ -z "$server" ] || wait "$server" 2>/dev/null
            server=
            answer ok no
        fi
        ;;
    stall | resume)
        if [ -z "$server" ]; then
            answer failed the server does not run
        elif "$word"; then
            answer ok
        else
            answer "failed to $word the server"
        fi
        ;;
    stop)
        stop ${rest}
        answer ok
        ;;
    *) answer "failed unknown request $word" ;;
    esac
done

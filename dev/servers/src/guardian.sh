# Guards one server: starts it, signals it, and cleans up after it.
#
# usage: guardian FOLDER SIGNAL
#
# FOLDER is created and removed here. SIGNAL stops the server at once. Requests are lines on stdin;
# each one but `arg` gets one line on stdout that begins with `ok` or `failed`. The end of stdin
# means that the other side has closed it or has ended, however that happened.
set -u
unset CLAVIGER_GUARDIAN
umask 077
# Signals of the terminal are for the test, which closes the pipe. HUP also comes from the kernel
# when the test ends while the server is stopped. PIPE would come from a response that nothing
# reads.
trap '' HUP INT QUIT PIPE

folder=$1
last_signal=$2
server=

respond() { printf '%s\n' "$*" 2>/dev/null || :; }

pause() { sleep 0.02 2>/dev/null || sleep 1; }

# Prints the state letter of a process; nothing if there is no such process.
state_of() {
    if [ -r /proc/self/stat ]; then
        sed -n 's/^.*) \([A-Za-z]\) .*/\1/p' "/proc/$1/stat" 2>/dev/null
    else
        ps -o state= -p "$1" 2>/dev/null | cut -c 1
    fi
}

# Reads /proc where it exists, because small container images have no `ps`.
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

is_frozen() {
    case $(state_of "$1") in '' | T | t | Z | X) return 0 ;; esac
    return 1
}

is_gone() { ! runs "$1"; }

# until_each TEST SECONDS PID…: waits until the test holds for each of them.
until_each() {
    check=$1
    pauses=$(($2 * 50))
    shift 2
    for process in "$@"; do
        until "$check" "$process"; do
            [ "$pauses" -gt 0 ] || return 1
            pauses=$((pauses - 1))
            pause
        done
    done
}

# Stops the parent first, then its children, because a running parent could start another.
stall() {
    kill -s STOP "$server" || return 1
    until_each is_frozen 5 "$server" || return 1
    children=$(children_of "$server")
    [ -z "$children" ] || kill -s STOP $children 2>/dev/null
    until_each is_frozen 5 $children
}

resume() {
    # A child may end between the check and the signal.
    kill -s CONT $(children_of "$server") "$server" 2>/dev/null
    runs "$server"
}

# The processes whose working directory is the folder: those of a server that ended without its
# children. (Not without /proc.)
orphans() {
    ls -l /proc/[0-9]*/cwd 2>/dev/null | grep -F " -> $folder/" |
        sed 's|.*/proc/\([0-9]*\)/cwd.*|\1|'
}

# Sends the signal at each call, because a server that is starting does not handle the first. A
# stalled one handles it only when it runs again.
has_stopped() {
    runs "$1" || return 0
    kill -s "$signal" "$1" 2>/dev/null
    resume
    return 1
}

# stop SIGNAL SECONDS
stop() {
    if [ -n "$server" ]; then
        signal=$1
        if ! until_each has_stopped "$2" "$server"; then
            kill -s STOP "$server" 2>/dev/null
            processes="$(children_of "$server") $server"
            kill -s KILL $processes 2>/dev/null
            until_each is_gone 5 $processes
        fi
        wait "$server" 2>/dev/null
        server=
    fi
    processes=$(orphans)
    [ -z "$processes" ] || kill -s KILL $processes 2>/dev/null
    until_each is_gone 5 $processes
    # PostgreSQL marks its data folder as in use by this file and by a small System V memory
    # segment. If the file still exists, the segment was not released.
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
    rm -rf "$folder" || { pause && rm -rf "$folder"; }
}

problem=$(mkdir "$folder" 2>&1) || {
    respond "failed $problem"
    exit 1
}
trap clean_up EXIT
trap 'exit 143' TERM
exec 2>"$folder/guardian.log"
: >"$folder/server.log"
respond ok

set --
while IFS= read -r request; do
    word=${request%% *}
    rest=${request#* }
    case $word in
    # One argument of the command line of the next `run` or `serve`.
    arg) set -- "$@" "$rest" ;;
    run)
        if "$@" </dev/null >"$folder/run.log" 2>&1; then respond ok; else respond "failed status $?"; fi
        set --
        ;;
    serve)
        "$@" </dev/null >>"$folder/server.log" 2>&1 &
        server=$!
        set --
        respond "ok $server"
        ;;
    running)
        if [ -n "$server" ] && runs "$server"; then
            respond ok yes
        else
            [ -z "$server" ] || wait "$server" 2>/dev/null
            server=
            respond ok no
        fi
        ;;
    stall | resume)
        if [ -z "$server" ]; then
            respond failed the server does not run
        elif "$word"; then
            respond ok
        else
            respond "failed to $word the server"
        fi
        ;;
    stop)
        stop ${rest}
        respond ok
        ;;
    *) respond "failed unknown request $word" ;;
    esac
done

# Installs Debian packages and prevents them from starting a service or creating a database.
#
# usage: install PACKAGE…, as root
#
# The files that prevent that are removed at the end. After a failed installation its packages are
# removed, too.
set -u
exec >&2
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
# dpkg needs programs that the PATH of a shell may lack.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

services=/usr/sbin/policy-rc.d
postgres=/etc/postgresql-common
clusters=$postgres/createcluster.conf
addition=$postgres/createcluster.d/claviger.conf
scratch=$(mktemp -d) || exit 1
made_files=
made_folders=
succeeded=

# Set if there may be a cluster on this machine; a purge would delete its files.
had_data=
[ ! -e /etc/postgresql ] && [ ! -e /var/lib/postgresql ] || had_data=yes

packages() { dpkg-query -W -f '${Package}\n' 2>/dev/null | sort -u; }

make_folder() {
    [ -d "$1" ] || { mkdir "$1" && made_folders="$1 $made_folders"; }
}

# make_file FILE MODE CONTENT: never overwrites a file.
make_file() {
    (set -C && printf '%s\n' "$3" >"$1") 2>/dev/null || return 0
    made_files="$1 $made_files"
    chmod "$2" "$1"
}

clean_up() {
    trap '' INT TERM HUP
    rm -f $made_files
    case $made_files in
    *"$clusters "*)
        # dpkg found our file in the place of the package's, and wrote the package's beside it.
        [ ! -e "$clusters.ucf-dist" ] || mv "$clusters.ucf-dist" "$clusters"
        ;;
    esac
    if [ -z "$succeeded" ] && [ -e "$scratch/before" ]; then
        added=$(packages | comm -13 "$scratch/before" -)
        if [ -n "$added" ]; then
            echo "claviger: the installation failed; removing what came with it: "$added
            action=purge
            [ -z "$had_data" ] || action=remove
            apt-get "$action" -y $added
        fi
    fi
    [ -z "$made_folders" ] || rmdir $made_folders 2>/dev/null
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

packages >"$scratch/before"
notice='# written by claviger while it installs a server for its tests; may be deleted'
make_file "$services" 755 "#!/bin/sh
$notice
exit 101" || exit 1
for package in "$@"; do
    case $package in
    postgresql*)
        make_folder "$postgres" || exit 1
        # The first is for a machine without PostgreSQL's common package. Otherwise that package's
        # file exists, and reads the second.
        make_file "$clusters" 644 "$notice
create_main_cluster = false"
        make_folder "${addition%/*}" || exit 1
        make_file "$addition" 644 "$notice
create_main_cluster = false"
        ;;
    esac
done

apt-get -o DPkg::Lock::Timeout=120 update || exit 1
apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" || exit 1
succeeded=yes

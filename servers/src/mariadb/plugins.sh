# Takes plugins out of Debian's package mariadb-server without installing it: the package
# would create a database and start a service.
#
# usage: plugins FOLDER PLUGIN…
#
# FOLDER is made here. Needs no rights.
set -eu
export LC_ALL=C
# Plugins are for the server's user, too.
umask 022
folder=$1
shift
mkdir "$folder" "$folder/work"
cd "$folder/work"

# Of the version that is installed, if there is such a package still.
version=$(dpkg-query -W -f '${Version}' mariadb-server-core 2>/dev/null) || version=
download() {
    # As the one who asks: apt's own user may not be allowed here.
    [ -n "$version" ] && apt-get -o APT::Sandbox::User=root download "mariadb-server=$version" ||
        apt-get -o APT::Sandbox::User=root download mariadb-server
}
if ! download; then
    # Perhaps nobody has fetched the lists of packages yet; only root can.
    [ "$(id -u)" = 0 ] || { echo "claviger: if the package is unknown here, run: sudo apt-get update" >&2 && exit 1; }
    apt-get -o DPkg::Lock::Timeout=120 update
    download
fi
dpkg-deb -x ./*.deb unpacked
for plugin in "$@"; do
    cp "unpacked/usr/lib/mysql/plugin/$plugin" "$folder/"
done
cd /
rm -rf "$folder/work"

# Takes files out of one of Debian's packages without installing it: the package would start
# a service.
#
# usage: unpack FOLDER PACKAGE COMPANION FILE…
#
# FOLDER is made here. PACKAGE is taken in the version in which COMPANION is installed, if it
# is and if that version can still be had. FILE is its path in the package. With
# CLAVIGER_LIBRARIES the libraries on which PACKAGE depends are unpacked as well, if their
# packages are not installed. Needs no rights.
set -eu
export LC_ALL=C
# The files are for other users, too.
umask 022
folder=$1
package=$2
companion=$3
shift 3
mkdir "$folder" "$folder/work"
cd "$folder/work"

version=$(dpkg-query -W -f '${Version}' "$companion" 2>/dev/null) || version=
download() {
    # As the one who asks: apt's own user may not be allowed here.
    [ -n "$version" ] && apt-get -o APT::Sandbox::User=root download "$package=$version" ||
        apt-get -o APT::Sandbox::User=root download "$package"
}
if ! download; then
    # Perhaps nobody has fetched the lists of packages yet; only root can.
    [ "$(id -u)" = 0 ] || { echo "claviger: if the package is unknown here, run: sudo apt-get update" >&2 && exit 1; }
    apt-get -o DPkg::Lock::Timeout=120 update
    download
fi
dpkg-deb -x ./*.deb unpacked
for file in "$@"; do
    cp "unpacked/$file" "$folder/"
done
if [ -n "${CLAVIGER_LIBRARIES:-}" ]; then
    mkdir libraries
    cd libraries
    for library in $(apt-cache depends --important "$package" | awk '$1 == "Depends:" && $2 ~ /^lib/ { print $2 }'); do
        dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q ' installed$' ||
            apt-get -o APT::Sandbox::User=root download "$library"
    done
    for archive in ./*.deb; do
        [ ! -e "$archive" ] || dpkg-deb -x "$archive" unpacked
    done
    [ ! -d unpacked ] || find unpacked -name 'lib*.so.*' -exec cp -L {} "$folder/" \;
    cd ..
fi
cd /
rm -rf "$folder/work"

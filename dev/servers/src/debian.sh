# Extracts files from a Debian package without installing it, because the package would start a
# service.
#
# usage: unpack FOLDER PACKAGE COMPANION FILE…
#
# FOLDER is created. PACKAGE is downloaded in the version of the installed COMPANION, if that
# version is still available. FILE is a path in the package, or NAME=PATH, which renames it. With
# CLAVIGER_LIBRARIES the missing libraries that PACKAGE depends on are extracted, too. Needs no
# privileges.
set -eu
export LC_ALL=C
# Other users need to read the files.
umask 022
folder=$1
package=$2
companion=$3
shift 3
mkdir "$folder" "$folder/work"
cd "$folder/work"

version=$(dpkg-query -W -f '${Version}' "$companion" 2>/dev/null) || version=
download() {
    # As the calling user, because apt's own user may have no access to the folder.
    [ -n "$version" ] && apt-get -o APT::Sandbox::User=root download "$package=$version" ||
        apt-get -o APT::Sandbox::User=root download "$package"
}
if ! download; then
    # The package lists may be missing; only root can fetch them.
    [ "$(id -u)" = 0 ] || { echo "claviger: if the package is unknown here, run: sudo apt-get update" >&2 && exit 1; }
    apt-get -o DPkg::Lock::Timeout=120 update
    download
fi
dpkg-deb -x ./*.deb unpacked
for file in "$@"; do
    case $file in
        *=*) cp "unpacked/${file#*=}" "$folder/${file%%=*}" ;;
        *) cp "unpacked/$file" "$folder/" ;;
    esac
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

#!/bin/sh
# Fetch Debian packages of another architecture and unpack them, for tests with programs that nobody here wrote.
#
#   tests/fetch_debian.sh DIR PACKAGE...     e.g.  tests/fetch_debian.sh .cache/debian-riscv64 busybox-static
#
# DIR/root is then a root file system with the packages and all that they depend on. What is there already is not
# fetched again. Packages come, signatures checked, from the mirror that this machine's own apt uses. Neither root
# rights nor this machine's package state are needed or touched: all of apt's files lie in DIR/apt.
#
# Environment: SUITE (trixie; if its package lists cannot be had, as while a mirror is being updated, sid), ARCH (riscv64), DEBIAN_MIRROR (the address of a mirror, if apt here knows none).
set -eu

suites=${SUITE:-trixie sid}
arch=${ARCH:-riscv64}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    echo "fetch_debian: $*" >&2
    exit 1
}

case ${1:-} in
'' | -*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
[ $# -ge 2 ] || fail "no package named: $0 DIR PACKAGE..."
mkdir -p "$1" || exit 1
dir=$(cd "$1" && pwd)
shift
case $dir in *[\"\;\ ]*) fail "$dir: apt's settings cannot hold a folder whose name has blanks, quotes or semicolons" ;; esac

# --- what is wanted, and what is there -------------------------------------------------------------------------------

list=$dir/packages # a line "suite architecture", then a package a line; written when the root is complete
have=
for suite in $suites; do
    if [ -d "$dir/root" ] && [ "$(sed -n 1p "$list" 2>/dev/null)" = "$suite $arch" ]; then
        have=$(sed 1d "$list")
    fi
done
wanted=$(printf '%s\n' $have "$@" | sort -u)
if [ "$wanted" = "$have" ]; then
    echo "$dir/root"
    exit 0
fi

# --- tools and mirror ------------------------------------------------------------------------------------------------

for tool in apt-get apt-config dpkg-deb; do
    command -v $tool >/dev/null || fail "$tool is not installed: this needs a Debian or a system like it"
done
[ -r "$keys" ] || fail "$keys is missing: install the package debian-archive-keyring"
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sed -n 1p)}
[ -n "$mirror" ] || fail "apt here knows no Debian mirror: run 'apt-get update' as root, or set DEBIAN_MIRROR"

# --- an apt of its own -----------------------------------------------------------------------------------------------

apt=$dir/apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/log" "$apt/empty"
: >"$apt/status"
{
    # Of this machine's settings only how to reach the network: proxies, retries, clocks. Its hooks stay out.
    apt-config dump | grep -E '^Acquire::(https?|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)(::| )' || :
    cat <<END
Acquire::Languages "none";
Acquire::Retries "3";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Log "$apt/log";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$apt/empty";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/empty";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt/empty";
END
} >"$apt/apt.conf.new"
mv "$apt/apt.conf.new" "$apt/apt.conf"
export APT_CONFIG="$apt/apt.conf"

quietly() { # run a command; show what it said only if it fails
    "$@" </dev/null >"$apt/log/last" 2>&1 || {
        cat "$apt/log/last" >&2
        return 1
    }
}

for suite in $suites; do
    echo "fetch_debian: $(echo $wanted) of $suite for $arch" >&2
    echo "deb [arch=$arch signed-by=$keys] $mirror $suite main" >"$apt/sources.list"
    if quietly apt-get update -o APT::Update::Error-Mode=any; then break; fi
    echo "fetch_debian: the package lists of $suite for $arch could not be fetched" >&2
    suite=
done
[ -n "$suite" ] || exit 1
rm -f "$apt"/cache/archives/*.deb
quietly apt-get install --yes --download-only $wanted || fail "not all of these could be fetched: $(echo $wanted)"

# --- unpack ----------------------------------------------------------------------------------------------------------

fresh=$dir/root.new
rm -rf "$fresh"
mkdir "$fresh"
for deb in "$apt"/cache/archives/*.deb; do
    [ -e "$deb" ] || fail "apt fetched nothing for: $(echo $wanted)"
    dpkg-deb --extract "$deb" "$fresh" || fail "$deb cannot be unpacked"
done
for folder in bin sbin lib; do # links that a package of their own makes in a real system
    [ -e "$fresh/$folder" ] || [ ! -d "$fresh/usr/$folder" ] || ln -s "usr/$folder" "$fresh/$folder"
done
rm -rf "$dir/root" "$apt/cache/archives"
mv "$fresh" "$dir/root"
printf '%s\n' "$suite $arch" $wanted >"$list"
echo "$dir/root"

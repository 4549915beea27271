#!/bin/sh
# Build the image:  build-image.sh [OPTION OF docker build…]
#
# Where docker or podman work and the base image is there or can be pulled, this is `docker build -t black-hole-survey .`
# At the end it prints the commands that load the image into kind, minikube or a node's containerd.
# In a closed network, as root on Debian, it needs only what apt and pip are set to use: it installs podman, makes a base
# image of Debian's packages, and lets the build see pip's settings and the certificates, mounted, never baked in.
# It leaves .image/, which says how to call the engine (.image/engine), and by which what was found out is known next time.
#   IMAGE                           the name to give it (default: black-hole-survey); it may have a registry and a tag
#   BASE_IMAGE                      the image to start from (default: the Dockerfile's)
#   PIP_INDEX_URL, TORCH_INDEX_URL  the indexes to install from (install.sh says more)
set -eu
cd "$(dirname "$0")/.."
image=${IMAGE:-black-hole-survey}
base=${BASE_IMAGE:-$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)}
state=$PWD/.image
certificates=/etc/ssl/certs/ca-certificates.crt # where Debian has them, in the image as well

say() { printf '  %s\n' "$*" >&2; }
fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

# macOS has no timeout(1).
command -v timeout >/dev/null || timeout() { shift && "$@"; }

# pip's settings may hold a password, so that what is left is for its owner alone.
(umask 077 && mkdir -p "$state") && [ -w "$state" ] ||
    fail "$state: found a folder that this user cannot write to, expected one to keep what was found out in; remove it"

# quietly WHAT COMMAND…: says what is done; the log's end only where the command fails.
quietly() {
    say "$1"
    shift
    "$@" >"$state/log" 2>&1 || {
        tail -n 20 "$state/log" >&2
        fail "$1: failed (above; all of it in $state/log)"
    }
}

# Prints the first engine that answers and has the base image, or can pull it.
working_engine() {
    for engine in docker podman; do
        timeout 20 "$engine" info >/dev/null 2>&1 || continue
        if ! "$engine" image inspect "$base" >/dev/null 2>&1; then
            say "$engine pull $base"
            timeout 120 "$engine" pull "$base" >"$state/log" 2>&1 || {
                say "failed, or took two minutes: $(tail -n 1 "$state/log")"
                continue
            }
        fi
        echo "$engine"
        return
    done
}

install_podman() {
    missing=
    # runc: Debian's default, crun, refuses machines that have both generations of cgroups.
    for package in podman runc catatonit mmdebstrap; do
        dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
    [ -z "$missing" ] && return
    quietly 'apt-get update' apt-get update -qq -o DPkg::Lock::Timeout=600
    DEBIAN_FRONTEND=noninteractive quietly "apt-get install$missing" \
        apt-get install -y -qq -o DPkg::Lock::Timeout=600 --no-install-recommends $missing
}

# What podman needs where it runs in a container itself: no systemd, no right to raise limits, no network of its own.
configure_podman() {
    hard=$(ulimit -Hn)
    case $hard in unlimited) files=16384 ;; *) files=$((hard < 16384 ? hard : 16384)) ;; esac
    cat >"$state/containers.conf" <<END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=16384:16384"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END
}

# A base image of this Debian's own Python, from the mirror that apt uses.
make_base_image() {
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    base=localhost/debian-python:$release
    call image exists "$base" && return
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $release" 'Identifier: Packages' | head -n 1)
    quietly "a base image of Debian $release, from ${mirror:-Debian}" mmdebstrap --format=tar --variant=minbase \
        --components=main --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --include=ca-certificates,netbase,tzdata,python3,python3-venv \
        --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
        "$release" "$state/base.tar" ${mirror:+"$mirror"}
    call import -q --change 'ENV LANG=C.UTF-8' "$state/base.tar" "$base" >/dev/null
    rm "$state/base.tar"
}

# pip_config NAMES: what this machine's pip is set to, as NAME = VALUE; its environment comes before its files.
pip_config() {
    for python in .venv/bin/python python3; do
        "$python" -m pip config list 2>/dev/null && break
    done | sed -nE "s/^(:env:|global|install)\.(default-)?($1)='(.*)'$/\1 \3 = \4/p" | sed 's/\\n/ /g' | LC_ALL=C sort |
        awk '!seen[$2]++ { sub(/^[^ ]+ /, ""); print }'
}

# Prints the folders of this machine that a pip.conf names. An index's files lie beside its pages, so not /simple alone.
folders_in() {
    grep -oE '[ /]/[^ ]+' "$1" | sed -E 's,^[ /],,; s,/simple/?$,,' | sort -u | while read -r path; do
        [ -d "$path" ] && echo "$path"
    done
}

# install_in_closed_network OPTION…: builds the stage that installs packages, with what this machine's pip is set to use
# mounted. The build that follows finds that stage done, and its own stage never sees those mounts, nor keeps their names.
install_in_closed_network() {
    {
        echo '[global]'
        echo "cert = $certificates"
        pip_config 'index-url|extra-index-url|find-links|no-index|trusted-host|proxy|timeout'
    } >"$state/pip.conf"
    trusted=$(pip_config 'cert')
    trusted=${trusted##* }
    set -- --network host -v "$state/pip.conf:/etc/pip.conf:ro" -v "${trusted:-${SSL_CERT_FILE:-$certificates}}:$certificates:ro" "$@"
    for path in $(folders_in "$state/pip.conf"); do
        set -- -v "$path:$path:ro" "$@"
    done
    say "$engine build --target dependencies, with the settings of this machine's pip"
    call build --target dependencies -t "$image-dependencies" "$@" .
}

# full_name NAME: the name as Kubernetes completes it: with registry and tag. Docker completes names like this too, but podman
# puts localhost/ before a name without a registry, and no pod asks for that.
# https://github.com/distribution/reference/blob/main/normalize.go
full_name() {
    name=${1#docker.io/}
    case ${name%%/*} in
        "$name") name=docker.io/library/$name ;;
        *.* | *:* | localhost) ;;
        *) name=docker.io/$name ;;
    esac
    case ${name##*/} in *:*) echo "$name" ;; *) echo "$name:latest" ;; esac
}

# Says how the image gets into a cluster that has no registry. A file, not a pipe: kind reads it once for each node.
say_how_to_load() {
    say 'to load it into a cluster, save it, then run the line for yours:'
    say "  $(cat "$state/engine") save $full >.image/image.tar"
    say '  kind load image-archive .image/image.tar'
    say '  minikube image load .image/image.tar'
    say '  sudo ctr -n k8s.io images import .image/image.tar    # on each node'
    asked=$(sed -nE 's/^ *(newName|newTag): *"?([^ "]+).*/\2/p' k8s/base/kustomization.yaml | paste -sd : -)
    [ "$full" = "$(full_name "$asked")" ] ||
        say "pods ask for $asked; for this image, kustomization.yaml needs newName: ${full%:*}, newTag: \"${full##*:}\""
}

# Calls the engine, with the settings that were made for it if there are any.
call() {
    if [ -n "$settings" ]; then CONTAINERS_CONF=$settings "$engine" "$@"; else "$engine" "$@"; fi
}

engine=
settings=
[ -e "$state/containers.conf" ] && [ -z "${BASE_IMAGE:-}" ] || engine=$(working_engine)
if [ -z "$engine" ]; then
    [ -z "${BASE_IMAGE:-}" ] || fail "$base: found no engine that has it or can pull it, expected docker or podman with access \
to its registry; start one, or leave BASE_IMAGE out to make a base image of Debian's packages (as root, on Debian)"
    [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] || fail "$base: found no engine that has it or can pull it, expected \
docker or podman with access to its registry; start one, name another image (make image BASE_IMAGE=…), or run this as root \
on Debian, where podman is set up and a base image made without a registry"
    say "no engine has $base or can pull it: taking podman, and a base image of Debian's packages"
    install_podman
    configure_podman
    engine=podman
    settings=$state/containers.conf
    make_base_image
fi
echo "${settings:+env 'CONTAINERS_CONF=$settings' }$engine" >"$state/engine"

revision=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null) || revision=unknown
set -- --build-arg "BASE_IMAGE=$base" --label "org.opencontainers.image.revision=$revision" "$@"
for name in PIP_INDEX_URL TORCH_INDEX_URL; do
    eval "[ -z \"\${$name:-}\" ]" || set -- --build-arg "$name" "$@" # its value stays off the command line
done
if [ -n "$settings" ]; then
    install_in_closed_network "$@"
    for option; do # without a cache, the other build would install anew, and has no way to
        shift
        [ "$option" = --no-cache ] || set -- "$@" "$option"
    done
fi
say "$engine build -t $image, from $base"
full=$(full_name "$image")
call build -t "$image" -t "$full" "$@" .
call image inspect "$image" --format '{{.Size}} {{.Config.User}}' | while read -r size user; do
    say "$image: $((size / 1000000)) MB, user $user, revision $revision"
done
say_how_to_load

#!/bin/sh
# copy-models.sh SOURCE TARGET
#
# Copies the files that SOURCE/SHA256SUMS lists to TARGET, once: what is there and right is left alone, a copy that was
# broken off goes on where it stopped, a second run at the same time waits for the first. A file appears under its name
# only when its checksum is right. Unfinished copies of an older list are removed; models only with PRUNE_DAYS=N: those that no
# list named in the last N days, whichever run read it.
#
# Make the list with:  cd models && find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS
#
# A file that was found right is not read again as long as its size, times and inode stay: TARGET/.verified remembers
# them. VERIFY=always reads all files again. Needs GNU coreutils and flock (util-linux): any Debian or Ubuntu image.
set -eu
export LC_ALL=C TZ=UTC
umask 022

say() { printf 'copy-models: %s\n' "$*"; }
die() {
    printf 'copy-models: %s\n' "$*" >&2
    exit 1
}
size() { stat -c %s -- "$1"; }
facts() { stat -c '%s %y %z %i' -- "$1"; }
sum_of() { sha256sum < "$1" | cut -c 1-64; }
remember() { # SUM NAME
    mkdir -p -- "$(dirname -- "$target/.verified/$2")"
    printf '%s %s\n' "$1" "$(facts "$target/$2")" > "$target/.verified/$2"
}
remembered() { # SUM NAME
    [ -f "$target/.verified/$2" ] && [ "$(cat -- "$target/.verified/$2")" = "$1 $(facts "$target/$2")" ]
}
room() { echo $(($(stat -f -c '%a * %S' -- "$target"))); } # bytes that are free for us

right() { # SUM NAME: is it there already?
    [ -f "$target/$2" ] || return 1
    if [ "${VERIFY:-}" != always ] && remembered "$1" "$2"; then
        touch -- "$target/.verified/$2" # asked for today
        return 0
    fi
    if [ "$(size "$target/$2")" = "$(size "$source/$2")" ] && [ "$(sum_of "$target/$2")" = "$1" ]; then
        remember "$1" "$2"
        return 0
    fi
    say "$2: differs from the list, it is copied again"
    return 1
}

copy() { # SUM NAME
    part=$target/.partial/$1
    for attempt in first second; do
        have=0
        [ ! -f "$part" ] || have=$(size "$part")
        [ "$have" -eq 0 ] || say "$2: going on at byte $have"
        if ! tail -c "+$((have + 1))" -- "$source/$2" >> "$part"; then
            if [ "$(room)" -lt 1048576 ]; then
                rm -f -- "$part" # the node needs the room more than we do
                die "$2: the disk is full"
            fi
            die "$2: the copy broke off; the next run goes on from here"
        fi
        if [ "$(sum_of "$part")" = "$1" ]; then
            sync -- "$part"
            mkdir -p -- "$(dirname -- "$target/$2")"
            mv -f -- "$part" "$target/$2"
            remember "$1" "$2"
            say "$2: copied"
            return
        fi
        rm -f -- "$part"
        say "$2: the $attempt copy does not match its checksum"
    done
    die "$2: the source is damaged, or its line in SHA256SUMS is out of date"
}

case ${PRUNE_DAYS:-0} in
    *[!0-9]*) die "PRUNE_DAYS is '$PRUNE_DAYS', not a number of days" ;;
esac
[ $# -eq 2 ] || die "usage: copy-models.sh SOURCE TARGET"
source=$1 target=$2
list=$source/SHA256SUMS
[ -f "$list" ] || die "there is no SHA256SUMS in the source; the first lines of this script say how to make it"
[ -w "$target" ] || die "the target cannot be written to by user $(id -u)"

exec 9> "$target/.lock" # children keep it: as long as one still writes, nobody else begins
if ! flock -n 9; then
    say "another copy is under way on this node; waiting for it"
    flock 9
fi
mkdir -p -- "$target/.partial" "$target/.verified"

todo='' needed=0 sums=' '
while read -r sum name || [ -n "$sum" ]; do
    [ -n "$sum" ] || continue
    case $sum in
        *[!0-9a-f]*) die "SHA256SUMS: '$sum' is not a checksum (names with a backslash or a line break cannot be copied)" ;;
    esac
    [ ${#sum} -eq 64 ] || die "SHA256SUMS: '$sum' is not a SHA-256"
    name=${name#\*} name=${name#./}
    case /$name/ in
        // | //* | */../* | /.lock/* | /.partial/* | /.verified/*) die "SHA256SUMS: '$name' is not a name for a model" ;;
    esac
    [ -f "$source/$name" ] || die "$name: in SHA256SUMS, but not in the source"
    right "$sum" "$name" && continue
    sums="$sums$sum " needed=$((needed + $(size "$source/$name")))
    [ ! -f "$target/.partial/$sum" ] || needed=$((needed - $(size "$target/.partial/$sum")))
    todo="$todo$sum $name
"
done < "$list"

for part in "$target/.partial/"*; do # of an older list; nobody else is at it, we have the lock
    case $sums in
        *" ${part##*/} "*) ;;
        *) rm -f -- "$part" ;;
    esac
done

if [ "${PRUNE_DAYS:-0}" -gt 0 ]; then
    find "$target/.verified" -type f -mmin "+$((PRUNE_DAYS * 1440))" | while IFS= read -r mark; do
        name=${mark#"$target/.verified/"}
        rm -f -- "$target/$name" "$mark"
        say "$name: removed, nobody asked for it in $PRUNE_DAYS days"
    done
fi

free=$(room)
[ "$needed" -le "$free" ] || die "not enough room: $needed bytes to copy, $free free; remove models that nobody uses"

printf %s "$todo" | while read -r sum name; do # no here-document: some shells need a writable /tmp for it
    copy "$sum" "$name"
done
say "all files are there and right"

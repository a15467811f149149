#!/usr/bin/env bash
# Training runs under torture: killed at any system call and at any moment, refused disk, memory, descriptors and
# allocations at the n-th call, stopped, started twice, their files cut while they are read. Every run is resumed
# afterwards and has to end with the bits of a run that nobody disturbed.
#
# usage: torture.sh BUILD [SECONDS [SEED]]     default: 3600 seconds, a seed that is printed
#
# Ends with a table of what was tried and how often, and a line "N passed, N failed"; status 1 when anything was lost,
# different, damaged or crashed.
# Needs strace (Debian: strace); full and read-only disks need root and are counted as skipped without it.
set -uo pipefail

if [ $# -lt 1 ] || [ ! -x "$1/inlay" ]; then
    echo "usage: $0 BUILD [SECONDS [SEED]]" >&2
    exit 2
fi
build=$(realpath "$1")
limit=${2:-3600}
seed=${3:-$RANDOM}
RANDOM=$seed
inlay=$build/inlay
here=$(cd "$(dirname "$0")" && pwd)
preload=$build/libfailing_malloc.so
command -v strace >/dev/null || { echo "torture needs strace (apt-get install strace)" >&2; exit 2; }
work=$(mktemp -d "${TMPDIR:-/tmp}/inlay-torture.XXXXXX")
disk=$work/disk
cleanup() { mountpoint -q "$disk" && umount -l "$disk"; rm -rf "$work"; }
trap cleanup EXIT
export ASAN_OPTIONS=allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}

calls='write pwrite64 fsync fdatasync rename renameat2 openat mmap munmap pread64 read fallocate ftruncate unlink mkdir'
calls+=' flock getdents64 newfstatat lseek close'
errors='EIO ENOSPC ENOMEM EMFILE ENFILE EDQUOT'
declare -A tried ended failed skipped wrong
kinds=()

# ---- data: pictures that are computed, and runs that nobody disturbs ----

picture() { # file, a number that decides it
    awk -v n="$2" 'BEGIN {
        printf "P2\n12 12\n255\n"
        for (i = 0; i < 144; i++) printf "%d ", (i * (n % 7 + 1) + n * 37 + int(i / 12) * (n % 3) * 11) % 256
    }' >"$1"
}
make_data() {
    local n=0
    for split in train val; do
        for class in a b c; do
            mkdir -p "$1/$split/$class"
            for i in 0 1 2 3 4; do picture "$1/$split/$class/$i.pgm" $((n++)); done
        done
    done
}
# Sets `picked` to one of its arguments: a subshell would not move the shell's random numbers on.
pick() { local list=("$@"); picked=${list[RANDOM % $#]}; }

# What a scenario's run is called with, but for its output; the cache's folder is the scenario's own.
arguments() { # method precision cache
    local more=()
    case $1 in
    fusion) more=(--adapters "$work/parts/a,$work/parts/b") ;;
    adapter_plus) more=(--drop-layers random) ;;
    adamix | mosa | adaptable) more=(--save-trained) ;;
    esac
    case $3 in
    off) more+=(--feature-cache off) ;;
    memory) ;;
    file) more+=(--cache-limit 0) ;;
    folder) more+=(--cache-dir "$work/cache") ;;
    augment) more+=(--augment) ;;
    esac
    printf '%s\n' train --backbone "$backbone" --data "$data" --method "$1" --precision "$2" --epochs 6 \
        --batch-size 4 --warmup-epochs 1 --lr 1e-2 --threads 1 --workers 1 --eval-every 1 --quiet "${more[@]}"
}

bytes_of() { # what has to be the same: the adapter, its description, and where there is one what was trained
    local files=(adapter.safetensors adapter.json)
    [ ! -d "$1/trained" ] || files+=(trained/adapter.safetensors trained/adapter.json)
    (cd "$1" && sha256sum "${files[@]}" 2>&1) | sha256sum | cut -c1-64
}

reference() { # method precision cache: its bytes in $expected, the counts of its calls in $work/ref/NAME.calls
    local name=$1.$2.$3 folder=$work/ref/$1.$2.$3
    if [ ! -f "$folder.sum" ]; then
        mapfile -t args < <(arguments "$@")
        rm -rf "$work/cache"
        strace -f -qq -e trace="${calls// /,}" -o "$work/trace" \
            "$inlay" "${args[@]}" --output "$folder" >"$work/log" 2>&1 || {
            echo "torture: '$name' fails without torture:" >&2
            tail -n 3 "$work/log" >&2
            exit 1
        }
        awk '
            { sub(/\(.*/, "", $2); count[$1 " " $2]++ }
            END {
                for (k in count) { split(k, p, " "); if (count[k] > most[p[2]]) most[p[2]] = count[k] }
                for (c in most) print c, most[c]
            }' "$work/trace" >"$folder.calls"
        rm -rf "$work/cache" "$folder"
        local begun=${EPOCHREALTIME/./}
        "$inlay" "${args[@]}" --output "$folder" >"$work/log" 2>&1
        echo $((${EPOCHREALTIME/./} - begun)) >"$folder.time"
        rm -rf "$work/cache"
        COUNT_MALLOC=$folder.mallocs LD_PRELOAD=$preload \
            "$inlay" "${args[@]}" --output "$work/counted" --overwrite >"$work/log" 2>&1
        rm -rf "$work/counted" "$work/cache"
        bytes_of "$folder" >"$folder.sum"
        rm -rf "$folder"
    fi
    expected=$(cat "$folder.sum")
    name_of_run=$name
}

# ---- verdicts ----

exec 3>&2
complain() { # kind, what is wrong
    wrong[$1]=$((${wrong[$1]:-0} + 1))
    echo "WRONG: $name_of_run, $fault: $2" >&3
    sed 's/^/    /' "$work/said" 2>/dev/null | tail -n 3 >&3
}

# A safetensors file that is whole: its length is what its header says.
whole() {
    local size length end
    size=$(stat -c %s "$1")
    length=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
    [ -n "$length" ] && [ "$length" -lt "$size" ] || return 1
    end=$(tail -c +9 "$1" | head -c "$length" | grep -ao '"data_offsets":\[[0-9]*,[0-9]*\]' |
        sed 's/.*,\([0-9]*\)\]/\1/' | sort -n | tail -n 1)
    [ "$((8 + length + ${end:-0}))" -eq "$size" ]
}

# What a run that ended in any way left behind: no file that a reader could take for a good one and that is not.
check_files() { # kind folder
    local file
    for file in "$2"/*.safetensors "$2"/trained/*.safetensors; do
        [ ! -e "$file" ] || whole "$file" || complain "$1" "${file##*/} is damaged"
    done
    for file in "$2"/*.json "$2"/trained/*.json; do
        [ ! -e "$file" ] || [ "$(tail -c 2 "$file" | tr -d '\n')" = '}' ] || complain "$1" "${file##*/} is damaged"
    done
}

# Whether the same disturbance brings any program down before it begins: where its very first mapping is refused, the
# dynamic loader of glibc dies by SIGSEGV.
loader_dies() {
    [ "$call" = mmap ] && [ "$at" -eq 1 ] || return 1
    (strace -qq -o /dev/null -e trace=mmap -e inject=mmap:error=EIO:when=1 true; exit $?) 2>/dev/null
    [ $? -eq 139 ]
}

# The status of a run that was disturbed. `mine`: the signal that was sent to it, 0: none.
check_status() { # kind status mine folder
    if [ "$2" -eq 0 ]; then
        ended[$1]=$((${ended[$1]:-0} + 1))
        [ "$(bytes_of "$4")" = "$expected" ] || complain "$1" "status 0, other bytes"
    elif [ "$2" -eq 124 ]; then
        complain "$1" "does not end"
    elif [ "$2" -ge 128 ] && [ "$2" -ne $((128 + $3)) ]; then
        # no memory for a name, here or in a C++ library: the one way in which a library may end the process
        if [ "$2" -eq 134 ] && grep -q 'out of memory\|bad_alloc' "$work/said"; then
            failed[$1]=$((${failed[$1]:-0} + 1))
        elif [ "$2" -eq 139 ] && loader_dies; then
            failed[$1]=$((${failed[$1]:-0} + 1))
        else
            complain "$1" "ended by signal $(($2 - 128))"
        fi
    else
        failed[$1]=$((${failed[$1]:-0} + 1))
        [ "$2" -ge 128 ] || [ -s "$work/said" ] || complain "$1" "status $2 without a message"
    fi
}

# After any torture: the run goes on and ends with the right bytes.
resume() { # kind folder
    local status
    "$inlay" "${args[@]}" --output "$2" --resume >"$work/said" 2>&1
    status=$?
    if [ $status -ne 0 ]; then
        complain "$1" "cannot be resumed: status $status"
    else
        [ "$(bytes_of "$2")" = "$expected" ] || complain "$1" "resumed, other bytes"
        if [ ! -e "$2/results.json" ] || [ ! -e "$2/curves.svg" ]; then
            complain "$1" "resumed, no results.json or no curves.svg"
        fi
        [ "$(grep -cv '^{.*}$' "$2/metrics.jsonl")" -eq 0 ] || complain "$1" "metrics.jsonl has a broken line"
        ls "$2"/*.tmp >/dev/null 2>&1 && complain "$1" "temporary files stay: $(cd "$2" && echo *.tmp)"
    fi
}

# ---- torture ----

most() { awk -v c="$1" '$1 == c { print $2; found = 1 } END { if (!found) print 0 }' "$work/ref/$name_of_run.calls"; }

# Sets `wait` to a moment of the run, in seconds.
choose_moment() {
    local whole
    whole=$(cat "$work/ref/$name_of_run.time")
    wait=$(awk -v whole="$whole" -v x="$RANDOM" 'BEGIN { printf "%.4f", whole * 1.1e-6 * x / 32768 }')
}

# A call of the run and its number; few at the begin are the loader's, which are tried as well.
choose_call() {
    local count=0
    while [ "$count" -eq 0 ]; do
        # shellcheck disable=SC2086 # a list of words
        pick $calls
        call=$picked
        count=$(most "$call")
    done
    at=$((RANDOM % count + 1))
}

# Runs a command, with something done to the call.
injected() { # what, command
    local what=$1
    shift
    timeout 30 strace -f -qq -o /dev/null -e trace="$call" -e inject="$call:$what" "$@"
}

torture_kill() { # at a call
    choose_call
    fault="killed at $call number $at"
    injected "signal=KILL:when=$at" "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=9
}
torture_moment() { # at a moment
    choose_moment
    fault="killed after $wait s"
    timeout -s KILL "$wait" "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=9
}
torture_term() { # asked to stop
    local signal
    choose_moment
    pick TERM INT HUP
    signal=$picked
    fault="SIG$signal after $wait s"
    timeout -s "$signal" --preserve-status "$wait" "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=0
    case $signal in
    TERM) [ $status -eq 143 ] && mine=15 ;;
    INT) [ $status -eq 130 ] && mine=2 ;;
    HUP) [ $status -eq 129 ] && mine=1 ;;
    esac
}
torture_error() { # a call fails once
    choose_call
    # shellcheck disable=SC2086
    pick $errors
    local error=$picked
    fault="$call number $at fails with $error"
    injected "error=$error:when=$at" "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=0
    [ "$call" != write ] || echo "(the message cannot be written)" >>"$work/said"
}
torture_errors() { # from one call on all fail
    choose_call
    # shellcheck disable=SC2086
    pick $errors
    local error=$picked
    fault="$call fails with $error from number $at on"
    injected "error=$error:when=$at+" "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=0
    [ "$call" != write ] || echo "(the message cannot be written)" >>"$work/said"
}
torture_malloc() {
    local count
    count=$(cat "$work/ref/$name_of_run.mallocs")
    at=$((RANDOM * 32768 % count + RANDOM % 1000 + 1))
    local all=$((RANDOM % 2))
    fault="allocation $at of $count fails$([ $all = 1 ] && echo ' and all later ones')"
    FAIL_MALLOC_AT=$at FAIL_MALLOC_ALL=$all LD_PRELOAD=$preload \
        timeout 30 "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=0
    [ -s "$work/said" ] || echo "(no memory for the message)" >"$work/said"
    [ $status -eq 0 ] || grep -qi 'memory\|bad_alloc' "$work/said" || complain malloc "the message tells another cause"
}
torture_stop() { # stopped and continued
    fault="stopped and continued"
    "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1 &
    local child=$!
    for _ in 1 2 3; do
        choose_moment
        sleep "$wait"
        kill -STOP $child 2>/dev/null
        choose_moment
        sleep "$wait"
        kill -CONT $child 2>/dev/null
    done
    wait $child
    status=$? mine=0
    [ $status -eq 0 ] || complain stop "status $status"
}
torture_twice() { # two processes on one folder
    fault="two at once"
    pick --resume --resume --overwrite
    "$inlay" "${args[@]}" --output "$out" "$picked" >"$work/said2" 2>&1 &
    local other=$! second
    "$inlay" "${args[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=0
    wait $other
    second=$?
    [ $status -eq 0 ] || [ $second -eq 0 ] || complain twice "neither of the two ended well"
    [ $second -eq 0 ] || grep -q 'in use' "$work/said2" || complain twice "the other one: $(head -n 1 "$work/said2")"
}
torture_disk() { # full or read-only
    local room=$((RANDOM % 400 + 8)) kept=$out
    mkdir -p "$disk"
    if [ "$(id -u)" -ne 0 ] || ! mount -t tmpfs -o size=${room}k none "$disk" 2>/dev/null; then
        skipped[disk]=$((${skipped[disk]:-0} + 1))
        status=-1
        return
    fi
    fault="a disk of $room kB"
    "$inlay" "${args[@]}" --output "$disk/out" --resume >"$work/said" 2>&1
    status=$? mine=0
    check_files disk "$disk/out"
    if [ -d "$disk/out" ]; then
        mount -o remount,ro "$disk"
        "$inlay" "${args[@]}" --output "$disk/out" --resume >"$work/said2" 2>&1
        local second=$?
        [ $second -lt 128 ] || complain disk "read-only: ended by signal $((second - 128))"
        rm -rf "$kept"
        cp -a "$disk/out" "$kept"
    fi
    umount "$disk"
}
torture_cut() { # a file is cut, or gets other bytes, while it is read
    local file
    pick "$own/backbone/model.safetensors" "$own/data/train/a/$((RANDOM % 5)).pgm" "$own/out/features.tmp" \
        "$work"/cache/*
    file=$picked
    fault="${file##*/} cut while it is read"
    local cut=("${args[@]}")
    rm -rf "$own"
    mkdir -p "$own"
    cp -a "$backbone" "$own/backbone"
    cp -a "$data" "$own/data"
    for i in "${!cut[@]}"; do
        [ "${cut[i]}" = "$backbone" ] && cut[i]=$own/backbone
        [ "${cut[i]}" = "$data" ] && cut[i]=$own/data
    done
    "$inlay" "${cut[@]}" --output "$own/out" >"$work/said" 2>&1 &
    local child=$!
    choose_moment
    sleep "$wait"
    [ -e "$file" ] && truncate -s $((RANDOM % 500)) "$file"
    wait $child
    local ended_with=$?
    [ $ended_with -lt 128 ] || complain cut "ended by signal $((ended_with - 128))"
    [ $ended_with -eq 0 ] || [ -s "$work/said" ] || complain cut "status $ended_with without a message"
    check_files cut "$own/out"
    failed[cut]=$((${failed[cut]:-0} + 1))
    rm -rf "$own" "$work/cache"
    status=-1
}

# ---- commands that read a model: what they write is whole or absent ----

# Sets `tool` to a command over what was trained at the begin; what it writes lies below $own.
choose_tool() {
    local plain=(--backbone "$backbone" --threads 1)
    pick fold predict eval
    tool_name=$picked
    case $tool_name in
    fold) tool=(fold "${plain[@]}" --adapter "$work/parts/fold" --output "$own/folded" --overwrite) ;;
    predict) tool=(predict "${plain[@]}" --adapter "$work/parts/a" --workers 1 --json --logits --quiet "$data/val") ;;
    eval) tool=(eval "${plain[@]}" --adapter "$work/parts/a" --data "$data" --split val --workers 1 --json --quiet) ;;
    esac
}
# What the tool made, without the figures of time; a file that is absent counts as "absent".
made_by_tool() {
    case $tool_name in
    fold)
        for file in model.safetensors config.json; do
            sha256sum <"$own/folded/$file" 2>/dev/null || echo absent
        done
        ;;
    *) grep -v '"[a-z_]*\(seconds\|per_second\|memory\|latency\)[a-z_]*"' "$work/answer" ;;
    esac
}
torture_tool() {
    local sum=$work/ref/tool choice=$((RANDOM % 3)) error how
    choose_tool
    rm -rf "$own" && mkdir -p "$own"
    if [ ! -f "$sum.$tool_name" ]; then
        "$inlay" "${tool[@]}" >"$work/answer" 2>"$work/said" || { cat "$work/said" >&3; exit 1; }
        made_by_tool >"$sum.$tool_name"
    fi
    [ $((RANDOM % 2)) = 0 ] && rm -rf "$own" && mkdir -p "$own"
    # shellcheck disable=SC2086
    pick $calls
    call=$picked at=$((RANDOM % 40 + 1))
    # shellcheck disable=SC2086
    pick $errors
    error=$picked
    case $choice in
    0) how=signal=KILL:when=$at ;;
    1) how=error=$error:when=$at ;;
    2) how=error=$error:when=$at+ ;;
    esac
    fault="$tool_name, $call: $how"
    injected "$how" "$inlay" "${tool[@]}" >"$work/answer" 2>"$work/said"
    local code=$?
    if [ $code -eq 0 ]; then
        ended[tool]=$((${ended[tool]:-0} + 1))
        [ "$(made_by_tool)" = "$(cat "$sum.$tool_name")" ] || complain tool "status 0, another answer"
    else
        failed[tool]=$((${failed[tool]:-0} + 1))
        [ $code -ne 124 ] || complain tool "does not end"
        [ $code -lt 128 ] || [ $code -eq 137 ] || complain tool "ended by signal $((code - 128))"
        [ $code -ge 128 ] || [ -s "$work/said" ] || [ "$call" = write ] ||
            complain tool "status $code without a message"
        if [ "$tool_name" = fold ]; then
            local line=0 file
            while read -r file; do
                line=$((line + 1))
                [ "$file" = absent ] || [ "$file" = "$(sed -n "${line}p" "$sum.fold")" ] ||
                    complain tool "a file of the folded model is damaged"
            done < <(made_by_tool)
        fi
    fi
    status=-1
}

# ---- what runs share: a folder of features, and images that others change ----

torture_shared() { # two runs, one folder of features; the first one may be killed
    local both=() skip=0 word
    for word in "${args[@]}"; do # in the place of the scenario's own cache
        if [ $skip = 1 ]; then
            skip=0
        elif [[ $word =~ ^--(feature-cache|cache-limit|cache-dir)$ ]]; then
            skip=1
        else
            both+=("$word")
        fi
    done
    # augmented images have no features to share: those runs go on beside each other
    [[ " ${both[*]} " == *" --augment "* ]] || both+=(--cache-dir "$work/cache")
    fault="a shared folder of features"
    rm -rf "$own"
    [ $((RANDOM % 3)) = 0 ] && rm -rf "$work/cache"
    "$inlay" "${both[@]}" --output "$own" --resume >"$work/said2" 2>&1 &
    local other=$! second
    if [ $((RANDOM % 2)) = 0 ]; then
        choose_moment
        (sleep "$wait" && kill -KILL $other) 2>/dev/null &
    fi
    "$inlay" "${both[@]}" --output "$out" --resume >"$work/said" 2>&1
    status=$? mine=0
    wait $other
    second=$?
    [ $status -eq 0 ] || complain shared "status $status"
    [ $second -eq 0 ] || [ $second -eq 137 ] || complain shared "the other one: status $second"
    [ $second -ne 0 ] || [ "$(bytes_of "$own")" = "$expected" ] || complain shared "the other one: other bytes"
    rm -rf "$own"
}
torture_image() { # an image is replaced or written over while the run goes on
    local mine_=("${args[@]}") n=$((RANDOM % 5)) before
    fault="an image is changed"
    rm -rf "$own" && mkdir -p "$own"
    cp -a "$data" "$own/data"
    for i in "${!mine_[@]}"; do [ "${mine_[i]}" = "$data" ] && mine_[i]=$own/data; done
    "$inlay" "${mine_[@]}" --output "$own/out" >"$work/said" 2>&1 &
    local child=$!
    choose_moment
    sleep "$wait"
    if [ $((RANDOM % 2)) = 0 ]; then
        picture "$own/data/train/a/$n.pgm" 777
    else
        picture "$own/new" 777 && mv "$own/new" "$own/data/train/a/$n.pgm"
    fi
    [ $((RANDOM % 2)) = 0 ] && kill -KILL $child
    wait $child
    before=$?
    [ $before -lt 128 ] || [ $before -eq 137 ] || complain image "ended by signal $((before - 128))"
    [ $before -eq 0 ] || [ $before -eq 137 ] || [ -s "$work/said" ] || complain image "status $before without a message"
    check_files image "$own/out"
    if [ -e "$own/out/checkpoint.safetensors" ]; then
        "$inlay" "${mine_[@]}" --output "$own/out" --resume >"$work/said" 2>&1
        before=$?
        [ $before -eq 0 ] || grep -q "data/train/a/$n.pgm" "$work/said" ||
            complain image "refused without the image's name"
        check_files image "$own/out"
    fi
    ended[image]=$((${ended[image]:-0} + 1))
    rm -rf "$own" "$work/cache"
    status=-1
}

backbone=$(realpath "$here/../data/oracle/vit")
data=$work/data own=$work/own out=$work/out
make_data "$data"
mkdir -p "$work/ref"
make_part() { # name, options
    local name=$1
    shift
    "$inlay" train --backbone "$backbone" --data "$data" --epochs 1 --batch-size 4 --precision f32 --quiet \
        --output "$work/parts/$name" "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
for part in a b; do make_part $part --method pfeiffer --seed $(($(printf '%d' "'$part"))); done
make_part fold --method bitfit
mapfile -t methods < <("$inlay" methods | awk 'NR > 2 { print $1 }')
kinds=(kill moment term error errors malloc stop twice disk cut tool shared image)
read -ra kinds <<<"${TORTURE_KINDS:-${kinds[*]}}" # some of them only, to look into one
echo "torture for $limit s, seed $seed"
start=$SECONDS round=0 chains=0
while [ $((SECONDS - start)) -lt "$limit" ]; do
    method=${methods[round % ${#methods[@]}]}
    pick f32 bf16 int8
    precision=$picked
    pick off memory file folder augment
    set -- "$method" "$precision" "$picked"
    round=$((round + 1))
    reference "$@"
    mapfile -t args < <(arguments "$@")
    rm -rf "$out" "$work/cache"
    for _ in 1 2 3; do
        pick "${kinds[@]}"
        kind=$picked
        status=-1 mine=0
        : >"$work/said"
        "torture_$kind" 2>/dev/null # the shell's own word on every process that was killed
        tried[$kind]=$((${tried[$kind]:-0} + 1))
        [ $status -lt 0 ] || check_status "$kind" "$status" "$mine" "$out"
        [ -d "$out" ] && check_files "$kind" "$out"
    done
    fault="after it all"
    resume "$kind" "$out"
    chains=$((chains + 1))
done

echo
printf '%-10s %8s %8s %8s %8s %8s\n' torture tried ended failed skipped WRONG
passed=0 bad=0 left=0
for kind in "${kinds[@]}"; do
    printf '%-10s %8d %8d %8d %8d %8d\n' "$kind" "${tried[$kind]:-0}" "${ended[$kind]:-0}" \
        "${failed[$kind]:-0}" "${skipped[$kind]:-0}" "${wrong[$kind]:-0}"
    good=$((${tried[$kind]:-0} - ${wrong[$kind]:-0} - ${skipped[$kind]:-0})) # a try may be wrong in several ways
    passed=$((passed + (good > 0 ? good : 0)))
    bad=$((bad + ${wrong[$kind]:-0}))
    left=$((left + ${skipped[$kind]:-0}))
done
all=$((${#methods[@]} * 15))
echo "$chains chains of three, $round of $all combinations of method, precision and cache, seed $seed"
echo "$passed passed, $bad failed$([ $left -eq 0 ] || echo ", $left skipped")"
[ $bad -eq 0 ]

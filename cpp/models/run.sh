#!/bin/bash
# Checks the models: each must hold in its whole space, and each must be refuted without any one of its safeguards.
# usage: run.sh [--large]
set -euo pipefail

models=$(cd "$(dirname "$0")" && pwd)
memory_mib=5500
is_large=no
case "${1:-}" in
    --large) is_large=yes; memory_mib=14000 ;;
    "") ;;
    *) echo "usage: $0 [--large]" >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# The verifier's whole output, in $work/out.
search() {
    local model=$1
    shift
    rm -rf "$work/build"
    mkdir "$work/build"
    cp "$models/$model.pml" "$work/build"
    : >"$work/out"
    (
        cd "$work/build"
        spin -a "$@" "$model.pml" && gcc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=$memory_mib -o pan pan.c && ./pan -E -m1000000 -w24
    ) >"$work/out" 2>&1 || true
}

pass() {
    echo "$1"
    passed=$((passed + 1))
}

fail() {
    echo "$1"
    sed 's/^/    /' "$work/out" | head -40
    failed=$((failed + 1))
}

# holds MODEL FLAGS...: no error, and nothing of the space left out.
holds() {
    local model=$1
    shift
    search "$model" "$@"
    if grep -q 'errors: 0$' "$work/out" && ! grep -Eq 'not completed|too small|truncated|MEMLIM bound|out of memory|hash-array' "$work/out"; then
        pass "$model ${*//-D/} holds: $(awk '/states, stored/ { print $1; exit }' "$work/out") states"
    else
        fail "$model ${*//-D/} DOES NOT HOLD, or was not searched to the end"
    fi
}

# refuted MODEL WHAT FLAGS...: an assertion fails.
refuted() {
    local model=$1 what=$2
    shift 2
    search "$model" "$@"
    if grep -q 'assertion violated' "$work/out"; then
        pass "$model $what: refuted as it must be"
    else
        fail "$model $what (${*//-D/}): NOT REFUTED"
    fi
}

holds moving_window -DR=2 -DW=2 -DN=2 -DT=5
holds moving_window -DR=3 -DW=3 -DN=2 -DT=5 -DREFUNDS=1
holds moving_window -DR=2 -DW=2 -DN=3 -DT=5 -DQ=2 -DREFUNDS=1
holds moving_window -DR=2 -DW=2 -DN=3 -DT=5 -DQ=2 -DCOSTS=2
holds moving_window -DR=2 -DW=2 -DN=2 -DT=4 -DPROCS=3 -DHITS=1 -DREFUNDS=1
holds moving_window -DR=2 -DW=2 -DN=2 -DT=10 -DLAPS=3
holds moving_window -DR=2 -DW=2 -DN=3 -DT=11 -DPROCS=1 -DHITS=6 -DREFUNDS=1
holds moving_window -DR=3 -DW=2 -DN=3 -DT=11 -DPROCS=1 -DHITS=7

holds moving_window -DRESETS=1 -DHITS=2 -DT=1
holds moving_window -DRESETS=1 -DHITS=1 -DREFUNDS=1 -DT=3
holds moving_window -DRESETS=5 -DHITS=5 -DREFUNDS=1 -DT=3 -DPROCS=1

refuted moving_window 'with resets that move the head on by a ring' -DMOVES_ON -DRESETS=2 -DHITS=2 -DT=2
refuted moving_window 'without a barrier behind a life' -DNO_BARRIER -DRESETS=2 -DHITS=2 -DT=2
refuted moving_window 'without a generation for each life' -DNO_GENERATION -DRESETS=2 -DHITS=2 -DREFUNDS=1 -DT=2
refuted moving_window 'without the seal' -DNO_SEAL -DT=1 -DPROCS=3 -DN=3 -DREFUNDS=1
refuted moving_window 'with a slot read after the head was last seen unchanged' -DREADS_SLOT_LATE -DT=3
refuted moving_window 'with slots recognised by position alone' -DPOSITION_ONLY -DPROCS=1 -DN=3 -DT=7 -DHITS=6
refuted moving_window 'without a look for a leftover of an earlier round' -DNO_LEFTOVER_CHECK -DPROCS=1 -DN=3 -DT=11 -DHITS=7
refuted moving_window 'without the floor' -DNO_FLOOR -DT=5
refuted moving_window 'with rounds that end at now, not at the floor' -DROUND_ENDS_AT_NOW -DT=10 -DLAPS=3

holds table -DHITS=1
holds table -DKEYS=1
holds table -DKEYS=1 -DRESETS=1 -DSLOTS=1 -DCELLS=2 -DT=0

refuted table 'without the generation in the control word' -DNO_GENERATION_IN_CONTROL
refuted table 'with one bit of the generation compared by the helper' -DLOW_BITS=1 -DKEYS=1 -DRESETS=1 -DSLOTS=1 -DCELLS=2 -DT=0
refuted table 'without generations' -DNO_GENERATION
refuted table 'without raising the floor before a reclaim' -DNO_TABLE_FLOOR
refuted table 'with a spare cell that is not looked at again' -DSPARE_MAY_BE_CLAIMED

holds claims -DCLAIMS=3 -DT=5
holds claims -DPATIENCE=2 -DT=6

refuted claims 'without the time in a claim' -DNO_TIME_IN_CLAIM
refuted claims 'with words that are read after the claim was seen to stand' -DREADS_AFTER_LOOKING
refuted claims 'with words that are stored, not swapped' -DSTORES
refuted claims 'with keys in a word without their generation' -DKEY_ALONE
refuted claims 'with owners that are stored, not swapped' -DSTORES_OWNER
refuted claims 'with owners in a word without their generation' -DOWNER_ALONE -DCLAIMS=3 -DT=6

if [ $is_large = yes ]; then
    refuted moving_window 'without a rest before positions come round' -DNO_REST -DRESETS=4 -DHITS=4 -DT=0 -DN=1
    holds claims -DPROCS=3
    holds table -DKEYS=1 -DHITS=1 -DRECLAIMS_EMPTY
    holds moving_window -DR=2 -DW=2 -DN=3 -DT=1 -DPROCS=3 -DREFUNDS=1
    holds moving_window -DR=2 -DW=2 -DN=2 -DT=5 -DHITS=3 -DREFUNDS=1
    holds moving_window -DR=3 -DW=2 -DN=3 -DT=5 -DHITS=3
fi

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

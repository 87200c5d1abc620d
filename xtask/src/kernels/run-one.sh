#!/bin/sh
# Runs one live test in a guest, a second time if it fails, and tells the host in one piece.
out=/run/out.$$
limit=${TEST_SECONDS:-100000}
used() {
    echo $(($(now) - BEGAN))
}
[ "$(used)" -lt "$limit" ] || exit 0
try=0
begin=$(date +%s%3N)
while :; do
    try=$((try + 1))
    # With one thread, as on one processor, the test's name would stand before its first words.
    timeout --kill-after=5 "$((limit < 240 ? 120 : 240))" "/tests/$1" --exact "$2" --nocapture --test-threads 2 >"$out" 2>&1 </dev/null
    code=$?
    # Cut short by the time there is, it has neither passed nor failed.
    [ "$code" -eq 124 ] && [ "$(used)" -ge "$limit" ] && exit 0
    [ "$code" -eq 0 ] || [ "$try" -ge 2 ] && break
    # What failed first is shown even if it then passes.
    cp "$out" "$out.first"
done
end=$(date +%s%3N)
(
    flock 9
    {
        echo "@@test $1 $2 $code $try $((end - begin))"
        if [ "$code" -eq 0 ]; then
            grep '^skipped: ' "$out"
        fi
        if [ -e "$out.first" ]; then
            tail -c 3000 "$out.first"
            echo
        fi
        if [ "$code" -ne 0 ]; then
            echo "second try:"
            tail -c 3000 "$out"
            echo
        fi
        echo "@@end"
    } >"/dev/$WORDS"
) 9>/run/telling
rm -f "$out" "$out.first"
